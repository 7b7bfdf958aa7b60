"""The web page: `page` lays it out and connects it, `server` runs it; the rest are plain arrays."""
