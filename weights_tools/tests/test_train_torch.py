"""train.py with torch: both losses, and a training that is killed and resumed ends with the bits of one in one go."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))
torch = pytest.importorskip("torch", reason="torch trains")
pytest.importorskip("transformers", reason="transformers has the network")
import drawer
from clipc_program import Clipc
from clipc_train import data, network, recipe

TINY = TOOLS.parent / "models" / "tiny"
PROGRAM = os.environ.get("CLIPC_PROGRAM") or str(TOOLS.parent / "build" / "clipc")
DRIVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import train
from clipc_train import recipe
S = recipe.Stage
recipe.STAGES = (S("one", 4, 8, 24, 1e-3, "a"), S("two", 3, 3, 16, 5e-4, "b", exchanged=0.5, turned=0.0),
                 S("three", 4, 4, 16, 1e-3, "c", exchanged=0.5, turned=0.5, text_only=True))
train.PER_CAPTION = {"checkpoint": 1, "end": 1}
sys.exit(train.main(sys.argv[1:]))
"""


def command(out, *options):
    return [sys.executable, "-c", DRIVER, str(TOOLS), "--merges", str(TINY / "merges.txt"), "--out", str(out), "--pool",
            "1000", "--every", "1", "--threads", "1", "--clipc", "none", *options]


def whole(out, *options):
    run = subprocess.run(command(out, *options), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run


def break_off(out, n_steps, how, *options):
    """Runs until so many steps are in a checkpoint, then sends the signal, wherever the training is by then."""
    process = subprocess.Popen(command(out, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    curve = out.with_name(out.name + ".training") / "curves.csv"
    until = time.monotonic() + 300
    while not (curve.exists() and curve.read_text().count("\n") > n_steps):
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate()
    assert not out.exists()
    return process.returncode, err


@pytest.mark.parametrize("loss", recipe.LOSSES)
def test_resumed_to_the_same_bits(loss, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    whole(one, "--loss", loss)
    status, err = break_off(other, 2, signal.SIGTERM, "--loss", loss)
    assert status == 130 and "interrupted; --resume goes on from the last checkpoint" in err
    assert break_off(other, 5, signal.SIGKILL, "--loss", loss, "--resume")[0] == -signal.SIGKILL
    assert break_off(other, 8, signal.SIGKILL, "--loss", loss, "--resume")[0] == -signal.SIGKILL
    changed = subprocess.run(command(other, "--loss", loss, "--resume", "--seed", "2"), capture_output=True, text=True)
    assert changed.returncode == 2 and "--seed 1, not 2" in changed.stderr
    whole(other, "--loss", loss, "--resume")
    for path in sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file() and p.name != "README.md"):
        assert (one / path).read_bytes() == (other / path).read_bytes(), path
    curve = [(out.with_name(out.name + ".training") / "curves.csv").read_text() for out in (one, other)]
    assert curve[0] == curve[1] and curve[0].count("\n") == 1 + 11
    assert sorted(p.name for p in (tmp_path / "other.training").iterdir() if p.suffix in (".npz", ".part")) == []
    assert ("its bias," in (other / "README.md").read_text()) == (loss == "sigmoid")
    opened(other)


def opened(folder):
    """clipc opens it and gives transformers' vectors."""
    if not os.access(PROGRAM, os.X_OK):
        pytest.skip(f"{PROGRAM} is not built")
    embed = network.open_embedder(folder)
    from PIL import Image
    from transformers import CLIPImageProcessorPil
    paths = sorted(str(p) for p in (folder / "pictures").iterdir())
    texts = [drawer.caption(c) for c in drawer.held_out_concepts()[::9]]
    prepared = CLIPImageProcessorPil.from_pretrained(folder)([Image.open(p) for p in paths], return_tensors="pt")
    with torch.no_grad():
        model = embed.model.eval()
        pooled = model.visual_projection(model.vision_model(**prepared).pooler_output)
        wanted = torch.cat([torch.nn.functional.normalize(pooled, dim=-1),
                            network.embed_texts(model, embed.tokenise(texts))]).numpy()
    vectors, status = Clipc(PROGRAM, str(folder)).embed(paths, texts)
    assert status == 0 and np.abs(vectors - wanted).max() < 1e-5
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["CLIPModel"] and "logit_bias" not in json.dumps(config)


# ---------------------------------------------------------------- losses

def logits_and_mask():
    rng = np.random.default_rng(4)
    mask = rng.random((5, 10)) < 0.2
    mask[np.arange(5), np.arange(5)] = False
    return rng.standard_normal((5, 10)).astype(np.float32) * 3, mask


def test_softmax_loss_is_clips():
    logits, mask = logits_and_mask()
    kept = np.where(mask, -np.inf, logits.astype(np.float64))

    def cross_entropy(rows):
        return np.mean(np.log(np.exp(rows).sum(1)) - rows[np.arange(5), np.arange(5)])

    wanted = (cross_entropy(kept) + cross_entropy(kept[:, :5].T)) / 2
    assert network.softmax_loss(torch.tensor(logits), torch.tensor(mask)).item() == pytest.approx(wanted, rel=1e-6)


def test_sigmoid_loss_is_siglips():
    logits, mask = logits_and_mask()
    total = 0.0
    for i in range(5):
        for j in range(10):
            if not mask[i, j]:
                total += np.log1p(np.exp(-(1 if i == j else -1) * float(logits[i, j])))
    assert network.sigmoid_loss(torch.tensor(logits), torch.tensor(mask)).item() == pytest.approx(total / 5, rel=1e-6)


@pytest.mark.parametrize("loss", recipe.LOSSES)
def test_both_losses_fall(loss):
    torch.manual_seed(3)
    progress = type("", (), {"step": lambda *_: None})()
    pool, pairs = (data.draw_all(draw, 40, 1, 1, progress) for draw in (data.pool_picture, data.pair_of_pictures))
    stage = recipe.Stage("s", 1, 1, 16, 1e-3, "s", exchanged=0.25)
    batch = data.Batches(stage, 1, pool, pairs).next()
    model, tokenise = network.new_model(loss), network.Tokeniser(TINY)
    optimiser = network.make_optimiser(model)
    losses = [network.descend(model, optimiser, network.batch_loss(model, batch, tokenise), 1e-3) for _ in range(25)]
    assert losses[-1] < 0.6 * losses[0]
    assert (network.bias_of(model) is None) == (loss == "softmax") and network.bias_of(model) != -10


def test_the_text_tower_alone_learns():
    torch.manual_seed(3)
    progress = type("", (), {"step": lambda *_: None})()
    pool = data.draw_all(data.pool_picture, 16, 1, 1, progress)
    batch = data.Batches(recipe.Stage("s", 1, 1, 16, 1e-3, "s"), 1, pool, None).next()
    model, tokenise = network.new_model("softmax"), network.Tokeniser(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network.descend(model, network.make_optimiser(model), network.batch_loss(model, batch, tokenise, True), 1e-3)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"text_model", "text_projection", "logit_scale"}
