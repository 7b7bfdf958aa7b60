// The page's brush: strokes on a canvas over the picture. `element`, `props` and `watch` are what
// Gradio hands to a component's script. `props.picture` is the picture's URL, `props.value` the
// strokes as a PNG data URL: opaque where the hole is.

const stage = element.querySelector(".stage");
const picture = element.querySelector("img");
const canvas = element.querySelector("canvas");
const ring = element.querySelector(".ring");
const size = element.querySelector("input");
const context = canvas.getContext("2d", { willReadFrequently: true });
const COLOR = "rgb(255, 64, 110)";
const MAX_UNDO = 30;

let tool = "brush";
let before = []; // the strokes as they were, the newest last
let last = null; // where the pointer was, while it is down
let sent = null; // the value that is on the canvas
let loads = 0;

function send() {
  sent = canvas.toDataURL("image/png");
  props.value = sent;
  element.querySelector("[data-tool=undo]").disabled = before.length === 0;
}

function remember() {
  before.push(context.getImageData(0, 0, canvas.width, canvas.height));
  if (before.length > MAX_UNDO) before.shift();
}

async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

// Shows the picture and the strokes that the server set.
async function load() {
  if (!props.picture || (props.value === sent && props.picture === picture.src)) return;
  // The two can arrive one after the other: the latest call wins.
  const turn = ++loads;
  const url = props.picture;
  const value = props.value;
  const [image, strokes] = await Promise.all([decoded(url), value ? decoded(value) : null]);
  if (turn !== loads) return;
  picture.src = url;
  canvas.width = image.naturalWidth; // which clears it too
  canvas.height = image.naturalHeight;
  stage.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  stage.style.setProperty("--ratio", canvas.width / canvas.height);
  stage.hidden = false;
  if (strokes) context.drawImage(strokes, 0, 0);
  before = [];
  sent = value;
  element.querySelector("[data-tool=undo]").disabled = true;
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * canvas.width,
    y: ((event.clientY - box.top) / box.height) * canvas.height,
  };
}

// The slider is in percent of the picture's longer side.
const width = () => (size.value / 100) * Math.max(canvas.width, canvas.height);

function stroke(from, to) {
  context.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = COLOR;
  context.lineWidth = width();
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
  context.beginPath(); // a line to where it begins draws nothing: a tap is a disc
  context.arc(to.x, to.y, width() / 2, 0, 2 * Math.PI);
  context.fill();
}

function moveRing(event) {
  const box = canvas.getBoundingClientRect();
  const side = width() * (box.width / canvas.width);
  ring.style.width = ring.style.height = `${side}px`;
  ring.style.left = `${event.clientX - box.left - side / 2}px`;
  ring.style.top = `${event.clientY - box.top - side / 2}px`;
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  remember();
  last = place(event);
  stroke(last, last);
  moveRing(event);
});
canvas.addEventListener("pointermove", (event) => {
  moveRing(event);
  if (!last || !event.isPrimary) return;
  const to = place(event);
  stroke(last, to);
  last = to;
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    if (last) send();
    last = null;
  });
}

element.querySelector(".tools").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.tool === "undo") {
    if (before.length) context.putImageData(before.pop(), 0, 0);
    send();
  } else if (button.dataset.tool === "clear") {
    remember();
    context.clearRect(0, 0, canvas.width, canvas.height);
    send();
  } else {
    tool = button.dataset.tool;
    for (const other of element.querySelectorAll("[aria-pressed]")) {
      other.setAttribute("aria-pressed", other === button);
    }
  }
});

watch(["value", "picture"], load);
load();
