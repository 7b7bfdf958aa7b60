"""PIC, a baseline: Zheng, Cham, Cai: "Pluralistic Image Completion", CVPR 2019.

    python -m baselines.pic.train --config=baselines/pic/config.py --workdir=DIR \\
        --config.data.source=folder:PATH
    python -m baselines.pic.complete --workdir=DIR --output=COMPLETIONS
    python evaluate.py --workdir=MODEL --output=report.json --compare=COMPLETIONS

Written from the paper, on this project's blocks, optimisers, data, loop and checkpoints, so that it
can be compared with UCTGAN at equal budget: networks of the same size (`configs/paper.py`), the
same pictures, steps and rates. Names: I_g is the picture, I_m its visible part, I_c its hidden
part.

What the paper says:

- Two paths share one encoder and one generator. The reconstructive path takes its code from a
  posterior q(z | I_c), the generative path from a conditional prior p(z | I_m). Both give the
  generator the features of I_m. Completion uses the generative path alone.
- KL(q || N(0, sigma^2(n) I)), where sigma^2 grows with n, the share of hidden pixels; and
  KL(q || p), which moves the prior to the posterior.
- l1 over the whole picture on the reconstructive path, over the visible pixels on the other.
- A discriminator for each path, trained by least squares (LSGAN). The reconstructive path has to
  match the features that its discriminator sees in the real picture; the generative path has to be
  scored as real.
- Short and long term attention: one map of weights, from the decoder's features, gathers both the
  decoder's and the encoder's features.
- The terms weigh 20 (KL), 20 (l1) and 1 (adversarial).

What is our choice: the layers and their sizes; sigma^2 = n; a code of 4 x 4 x 32 numbers, as many
to those of a picture as the paper's 8 x 8 x 128 at 256 px; attention at a quarter of the picture's
side; one output size; that l1 and features are means and a nat of KL weighs 20 / 8192, as in a mean
over the paper's code; R1 on the discriminators, which also see the mask, in place of other
normalisation; and the optimiser, which is that of `configs/paper.py`.
"""
