"""The model's seam against plain transformers calls: full passes from ids and embeddings, no cache, autograd."""

from __future__ import annotations

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from explorer.errors import UserError
from explorer.fingerprint import fingerprint
from explorer.model import LanguageModel, choose_device, choose_dtype, draw
from explorer.records import SamplingConfig
from explorer.settings import Settings
from explorer.sources import ResolvedModel
from explorer.training.common import settings
from explorer.training.request import TrainRequest
from explorer.training.weights import Trainee
from explorer.ui.trainings import fingerprints
from tests.conftest import tiny_model, tiny_network, tiny_tokenizer

QUESTION = "What is 12 + 30?"


def plain_losses(model, prompt_ids, prefix, anchor, continuation):
    """Both losses and gradients by the book: the whole sequence through the network, a log-softmax, a mean,
    autograd."""
    embed = model.network.get_input_embeddings()
    found = []
    span = anchor.answer_span
    for ids, scored in ((anchor.token_ids[: span[1]], range(*span)), (continuation, range(len(continuation)))):
        point = prefix.clone().requires_grad_(True)
        whole = torch.cat([embed(torch.tensor(prompt_ids)), point, embed(torch.tensor(ids))])[None]
        logits = model.network(inputs_embeds=whole, use_cache=False).logits[0].float()
        offset = len(prompt_ids) + len(prefix)
        terms = [-torch.log_softmax(logits[offset + i - 1], dim=-1)[ids[i]] for i in scored]
        loss = torch.stack(terms).mean()
        found.append((loss.item(), torch.autograd.grad(loss, point)[0]))
    return found


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_losses_and_gradients_equal_the_plain_computation(model):
    prompt = model.prompt(QUESTION)
    prefix_ids, continuation = model.encode("The sum is "), model.encode("41 apples.")
    anchor = model.anchor(prefix_ids, "\nThe answer is ", "42", continuation)
    # A point inside the hull, not a row: what a revision really evaluates.
    prefix = 0.7 * model.rows(prefix_ids) + 0.3 * model.rows(model.encode("What is the")[:1] * len(prefix_ids))
    context = model.read(prompt.token_ids)
    for _ in range(2):  # twice: the shared context must be untouched by a use
        losses = model.losses(context, prefix, anchor, continuation)
        (toward, toward_gradient), (away, away_gradient) = plain_losses(
            model, prompt.token_ids, prefix, anchor, continuation
        )
        assert losses.toward == pytest.approx(toward, rel=1e-4)
        assert losses.away == pytest.approx(away, rel=1e-4)
        assert relative(losses.toward_gradient, toward_gradient) < 1e-4
        assert relative(losses.away_gradient, away_gradient) < 1e-4
    assert model.cached


@pytest.mark.filterwarnings("error::FutureWarning")
def test_nothing_is_asked_that_the_library_is_about_to_drop(model):
    context = model.read(model.prompt(QUESTION).token_ids)
    prefix_ids, continuation = model.encode("The sum is "), model.encode("41 apples.")
    model.losses(context, model.rows(prefix_ids), model.anchor(prefix_ids, "", "42", continuation), continuation)
    list(model.sample(context, None, SamplingConfig(n=2, max_new_tokens=3)))


def test_vocabulary_is_what_the_model_consumes(model):
    ids = torch.arange(model.info.vocab_size)
    consumed = model.network.get_input_embeddings()(ids)
    assert torch.equal(model.vocabulary, consumed)


def test_a_scaled_family_differs_from_its_raw_matrix():
    gemma = tiny_model("gemma")
    raw = gemma.network.get_input_embeddings().weight
    assert torch.allclose(gemma.vocabulary, raw * 32**0.5, rtol=1e-3)
    assert not torch.allclose(gemma.vocabulary, raw)


@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_sliding_windows_give_the_same_from_the_shared_cache(family):
    tokenizer = tiny_tokenizer()
    model = LanguageModel(tiny_network(family, len(tokenizer), sliding_window=8), tokenizer, id=family)
    prompt = model.prompt(QUESTION)
    prefix_ids, continuation = model.encode("The sum is "), model.encode("41 apples.")
    anchor = model.anchor(prefix_ids, "\nThe answer is ", "42", continuation)
    context = model.read(prompt.token_ids)
    losses = model.losses(context, model.rows(prefix_ids), anchor, continuation)
    (toward, toward_gradient), (away, _) = plain_losses(
        model, prompt.token_ids, model.rows(prefix_ids), anchor, continuation
    )
    assert losses.toward == pytest.approx(toward, rel=1e-4)
    assert losses.away == pytest.approx(away, rel=1e-4)
    assert relative(losses.toward_gradient, toward_gradient) < 1e-4


def test_greedy_sampling_is_identical_to_generate(model):
    prompt = model.prompt(QUESTION)
    context = model.read(prompt.token_ids)
    sampled = []
    for events in model.sample(context, None, SamplingConfig(n=1, temperature=0.0, max_new_tokens=24)):
        sampled += [token for _, token in events if token is not None]
    ids = torch.tensor([prompt.token_ids])
    expected = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=sorted(model.end_ids)
    )[0, ids.shape[1] :].tolist()
    assert sampled == [token for token in expected if token not in model.end_ids]


def collect(model, context, prefix, sampling, stream=0, first_row=0):
    rows = [[] for _ in range(sampling.n)]
    for events in model.sample(context, prefix, sampling, stream, first_row):
        for row, token in events:
            rows[row].append(token)
    return rows


def test_going_on_from_token_embeddings_is_going_on_from_tokens(model):
    prompt = model.prompt(QUESTION)
    prefix = model.encode("The answer is")
    greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=12)
    from_embeddings = collect(model, model.read(prompt.token_ids), model.rows(prefix), greedy)
    from_tokens = collect(model, model.read([*prompt.token_ids, *prefix]), None, greedy)
    assert from_embeddings == from_tokens


def test_a_seed_gives_the_same_rollouts_and_rows_do_not_depend_on_each_other(llama):
    context = llama.read(llama.prompt(QUESTION).token_ids)
    four = collect(llama, context, None, SamplingConfig(n=4, temperature=1.0, max_new_tokens=20, seed=3))
    again = collect(llama, context, None, SamplingConfig(n=4, temperature=1.0, max_new_tokens=20, seed=3))
    two = collect(llama, context, None, SamplingConfig(n=2, temperature=1.0, max_new_tokens=20, seed=3))
    other = collect(llama, context, None, SamplingConfig(n=4, temperature=1.0, max_new_tokens=20, seed=4))
    assert four == again
    assert four[:2] == two
    assert four != other
    assert four[0] != four[1]


def test_samples_follow_the_distribution_that_generate_draws_from(llama):
    """Chi-square of 4,096 two-token rollouts against probabilities that the library's own warpers give."""
    from scipy.stats import chisquare
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    prompt, drawn, sampling = (
        list(llama.prompt(QUESTION).token_ids),
        [],
        SamplingConfig(n=1024, temperature=0.7, top_p=0.8, max_new_tokens=2, seed=5),
    )
    for first in range(0, 4096, sampling.n):
        drawn += [tuple(row) for row in collect(llama, llama.read(prompt), None, sampling, first_row=first)]

    def probabilities(ids, temperature=sampling.temperature, top_p=sampling.top_p):
        with torch.no_grad():
            logits = llama.network(input_ids=torch.tensor([ids])).logits[:, -1].double()
        warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits))
        return torch.softmax(warped, dim=-1)[0]

    def p_value(tokens, expected):
        counts = torch.bincount(torch.tensor(tokens), minlength=len(expected)).double()
        expected = expected * len(tokens)
        assert not counts[expected == 0].any()
        common = expected >= 5
        pooled = [[*part[common].tolist(), float(part[~common].sum())] for part in (counts, expected)]
        keep = [index for index, value in enumerate(pooled[1]) if value > 0]
        return chisquare(*([part[index] for index in keep] for part in pooled)).pvalue

    first = [row[0] if row[0] is not None else min(llama.end_ids) for row in drawn]
    assert p_value(first, probabilities(prompt)) > 1e-3
    assert p_value(first, probabilities(prompt, temperature=0.9, top_p=1.0)) < 1e-6, "the test could not fail"
    common = max(set(first) - llama.end_ids, key=first.count)
    second = [row[1] for row in drawn if row[0] == common and row[1] is not None]
    after = probabilities([*prompt, common])
    after[list(llama.end_ids)] = 0.0
    assert p_value(second, after / after.sum()) > 1e-3


@pytest.mark.real_model
def test_greedy_sampling_of_the_default_model_is_identical_to_generate():
    from transformers import AutoModelForCausalLM

    from explorer.problems import load_bank
    from explorer.settings import read_settings
    from explorer.sources import resolve

    found = resolve("default", read_settings().cache_dir)
    plain = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32, local_files_only=True).eval()
    model = LanguageModel.load(found.path, id=found.id, dtype="float32", device="cpu")
    assert not model.fallbacks
    for problem in load_bank()[::40]:
        prompt = model.prompt(problem.question).token_ids
        greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=40)
        (found,) = collect(model, model.read(prompt), None, greedy)
        ids = torch.tensor([prompt])
        with torch.no_grad():
            expected = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40)[
                0, len(prompt) :
            ].tolist()
        assert [token for token in found if token is not None] == [t for t in expected if t not in model.end_ids]


def test_more_rows_of_a_stream_are_those_that_a_larger_batch_would_have_drawn(llama):
    context = llama.read(llama.prompt(QUESTION).token_ids)
    whole = collect(llama, context, None, SamplingConfig(n=6, temperature=1.0, max_new_tokens=8, seed=3))
    more = collect(llama, context, None, SamplingConfig(n=4, temperature=1.0, max_new_tokens=8, seed=3), first_row=2)
    assert more == whole[2:]
    assert whole[:2] != whole[2:4]


def test_rows_that_end_leave_the_batch_and_the_others_go_on(llama):
    """Ends are made likely by letting many ids end a rollout; each row must then equal the same row sampled alone, cut
    at its end."""
    context = llama.read(llama.prompt(QUESTION).token_ids)
    sampling = SamplingConfig(n=6, temperature=1.0, max_new_tokens=16, seed=1)
    free = collect(llama, context, None, sampling)
    before = llama.end_ids
    try:
        llama.end_ids = frozenset(range(0, 320, 5))
        ended = collect(llama, context, None, sampling)
    finally:
        llama.end_ids = before
    assert any(None in row for row in ended)
    for whole, cut in zip(free, ended, strict=True):
        stop = next((i for i, token in enumerate(whole) if token is None or token % 5 == 0), len(whole))
        assert cut[:stop] == whole[:stop]
        assert len(cut) == min(stop + 1, 16)


def test_draws_follow_the_distribution():
    """A chi-squared test of 20,000 draws at temperature 0.7 and top-p 0.8 against the probabilities worked out by
    hand."""
    from scipy import stats

    logits = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0, -3.0])
    count = 20_000
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = draw(logits.expand(count, -1), uniforms, 0.7, 0.8)
    weights = (logits.double() / 0.7).exp()
    weights /= weights.sum()
    total, kept = 0.0, []
    for token in weights.argsort(descending=True).tolist():
        kept.append(token)
        total += weights[token].item()
        if total >= 0.8:
            break
    observed = [(tokens == token).sum().item() for token in kept]
    assert sum(observed) == count  # nothing outside the nucleus
    expected = [count * weights[token].item() / total for token in kept]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_draw_never_picks_a_forbidden_or_impossible_token():
    logits = torch.tensor([[0.0, 50.0, 0.0]])
    allowed = torch.tensor([True, False, True])
    for uniform in (0.0, 0.5, 1 - 1e-16):
        assert draw(logits, torch.tensor([uniform], dtype=torch.float64), 1.0, 1.0, allowed).item() in (0, 2)
        assert (
            draw(torch.tensor([[-torch.inf, 0.0, -torch.inf]]), torch.tensor([uniform], dtype=torch.float64), 1.0, 1.0)
            == 1
        )
    assert draw(logits, torch.zeros(1, dtype=torch.float64), 0.0, 1.0, allowed).item() == 0


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [[0.0, torch.nan, 1.0], [0.0, torch.inf, 1.0], [-torch.inf] * 3])
def test_nothing_is_drawn_from_logits_that_are_not_finite(bad, temperature, top_p):
    logits = torch.tensor([[0.0, 1.0, 2.0], bad])
    with pytest.raises(UserError, match="logits are not finite"):
        draw(logits, torch.full((2,), 0.5, dtype=torch.float64), temperature, top_p)
    # A token that can't be is no fault, nor is what stands in a row that no token has.
    held = torch.tensor([[-torch.inf, 1.0, torch.nan]])
    allowed = torch.tensor([True, True, False])
    assert draw(held, torch.full((1,), 0.5, dtype=torch.float64), temperature, top_p, allowed).item() == 1


def test_weights_that_give_no_finite_logits_are_refused_when_they_load():
    network = tiny_network("llama", 320)
    with torch.no_grad():
        network.model.norm.weight[0] = torch.nan
    with pytest.raises(UserError, match="logits are not finite"):
        LanguageModel(network, tiny_tokenizer(), id="broken")


def test_nothing_from_embeddings_is_no_agreement(monkeypatch):
    plain = LanguageModel.forward
    monkeypatch.setattr(LanguageModel, "forward", lambda *given, **more: plain(*given, **more) * torch.nan)
    with pytest.raises(UserError, match="differently to embeddings"):
        LanguageModel(tiny_network("llama", 320), tiny_tokenizer(), id="deaf")


def test_a_token_that_can_not_be_is_no_difference():
    network = tiny_network("llama", 320)
    network.lm_head.register_forward_hook(lambda layer, _, out: out.index_fill(-1, torch.tensor([5]), -torch.inf))
    assert LanguageModel(network, tiny_tokenizer(), id="masked").packed


def test_pieces_join_to_the_text_even_inside_a_character(llama):
    ids = llama.encode("naïve ☃ 漢字 😀 = 4")
    pieces = llama.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == llama.decode(ids)


def test_anchor_scores_exactly_the_answer(llama):
    prefix = llama.encode("The sum is ")
    anchor = llama.anchor(prefix, "\nThe answer is ", "42")
    start, end = anchor.answer_span
    assert end == len(anchor.token_ids)
    assert llama.decode(anchor.token_ids[start:end]).strip() == "42"
    assert llama.decode(anchor.token_ids) == "\nThe answer is 42"
    assert llama.encode("The sum is \nThe answer is 42")[len(prefix) :] == list(anchor.token_ids)


def test_direct_anchor_takes_the_space_of_what_it_replaces(llama):
    with_space = llama.anchor(llama.encode("12 + 30 ="), "", "42", llama.encode(" 41"))
    without = llama.anchor(llama.encode("12 + 30 ="), "", "42", llama.encode("41"))
    assert llama.decode(with_space.token_ids) == " 42"
    assert llama.decode(without.token_ids) == "42"


def test_padded_vocabulary_rows_are_never_picked_or_sampled():
    tokenizer = tiny_tokenizer()
    model = LanguageModel(tiny_network("qwen2", len(tokenizer) + 40), tokenizer, id="padded")
    assert model.allowed is not None
    assert int(model.allowed.sum()) == len(tokenizer)
    context = model.read(model.prompt(QUESTION).token_ids)
    rows = collect(model, context, None, SamplingConfig(n=8, temperature=3.0, max_new_tokens=24))
    assert all(token is None or token < len(tokenizer) for row in rows for token in row)


def test_a_family_without_a_shareable_cache_runs_the_plain_way():
    """A recurrent family keeps state that can't be forked: it must be noticed, and give the same numbers as the plain
    computation."""
    from transformers import AutoModelForCausalLM, MambaConfig

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, state_size=4, num_hidden_layers=2, eos_token_id=2)
    model = LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer, id="tiny-mamba")
    assert not model.cached
    assert model.fallbacks == ("the prompt is read again at every step: this family’s cache can’t be shared",)
    prompt = model.prompt(QUESTION)
    prefix_ids, continuation = model.encode("The sum is "), model.encode("41 apples.")
    anchor = model.anchor(prefix_ids, "\nThe answer is ", "42", continuation)
    losses = model.losses(model.read(prompt.token_ids), model.rows(prefix_ids), anchor, continuation)
    (toward, toward_gradient), (away, _) = plain_losses(
        model, prompt.token_ids, model.rows(prefix_ids), anchor, continuation
    )
    assert losses.toward == pytest.approx(toward, rel=1e-4)
    assert losses.away == pytest.approx(away, rel=1e-4)
    assert relative(losses.toward_gradient, toward_gradient) < 1e-4
    rows = collect(model, model.read(prompt.token_ids), None, SamplingConfig(n=3, max_new_tokens=6))
    assert all(rows)


def test_bad_device_dtype_and_folder_are_said_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no device"):
        choose_device("abacus")
    with pytest.raises(UserError, match="There is no dtype"):
        choose_dtype("float3", torch.device("cpu"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"')
    with pytest.raises(UserError, match="could not be loaded"):
        LanguageModel.load(tmp_path, id="broken")


@pytest.mark.parametrize(
    ("major", "kind"),
    [(8, torch.bfloat16), (7, torch.float16)],  # a T4 or V100 emulates bfloat16
)
def test_a_gpu_is_asked_for_a_format_of_its_own(monkeypatch, tmp_path, major, kind):
    entered = []
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: entered[-1] if entered else 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda one: SimpleNamespace(major=(major, 8)[one]))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)

    @contextlib.contextmanager
    def inside(device):
        entered.append(device.index)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, "device", inside)
    assert torch.cuda.is_bf16_supported(), "torch would emulate it"
    for name, wanted in (("cuda", kind), ("cuda:0", kind), ("cuda:1", torch.bfloat16)):
        device = torch.device(name)
        assert choose_dtype("auto", device) == wanted
        asked = settings(TrainRequest(), tmp_path, device)
        assert (asked["bf16"], asked["fp16"]) == (wanted == torch.bfloat16, wanted == torch.float16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model saved as anyone would save theirs."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama").network.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_a_factor_inside_the_embeddings_is_rounded_in_each_format(tmp_path):
    """Gemma 3's own network: its rows in bfloat16 are not its float32 rows rounded, and it is the same model still."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = tiny_tokenizer()
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=640,  # √640 is 25.298, in bfloat16 25.25
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    torch.manual_seed(7)
    Gemma3ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    known = Trainee(ResolvedModel(tmp_path, "gemma", "local"), Settings(device="cpu")).fingerprints
    plain = LanguageModel.load(tmp_path, id="gemma", device="cpu", dtype="float32")
    made = {"float32": plain.info.fingerprint}
    for name, kind in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        made[name] = LanguageModel.load(tmp_path, id="gemma", device="cpu", dtype=name).info.fingerprint
        assert made[name] != fingerprint(plain.vocabulary.to(kind)), "the test could not fail"
    assert known == set(made.values())
    assert len(known) == 3
    assert fingerprints(plain) == known, "the page's own count"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tokenizer.json", {"model": {"type": "Alien", "vocab": {}}}),
        ("tokenizer.json", {"version": "1.0"}),
        ("config.json", {"num_hidden_layers": "many"}),
        ("config.json", {"rope_parameters": 3}),
        ("config.json", {"hidden_size": None}),
    ],
)
@pytest.mark.parametrize(
    "load",
    [
        lambda folder: LanguageModel.load(folder, id="wrong", device="cpu"),
        lambda folder: Trainee(ResolvedModel(folder, "wrong", "local"), Settings(device="cpu")),
    ],
)
def test_a_folder_of_sound_files_with_wrong_content_is_said_in_one_sentence(saved, tmp_path, name, wrong, load):
    folder = shutil.copytree(saved, tmp_path / "wrong")
    before = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**before, **wrong} if name == "config.json" else wrong))
    with pytest.raises(UserError, match="could not be loaded"):
        load(folder)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    ],
)
def test_memory_that_runs_out_is_no_damaged_copy(saved, monkeypatch, error):
    from transformers import AutoModelForCausalLM

    def fails(*given, **more):
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fails)
    with pytest.raises(type(error)):
        LanguageModel.load(saved, id="large", device="cpu")


def test_a_prompt_longer_than_the_context_is_refused(llama):
    with pytest.raises(UserError, match="shorten the question"):
        llama.prompt("apples " * 400)


def test_the_log_probability_of_each_token_equals_a_plain_pass(model):
    prompt = model.prompt(QUESTION)
    ids = model.encode("The answer is 42.")
    whole = torch.tensor([[*prompt.token_ids, *ids]])
    logits = model.network(input_ids=whole, use_cache=False).logits[0].float()
    plain = torch.log_softmax(logits, dim=-1)
    before = len(prompt.token_ids) - 1
    expected = [float(plain[before + place, token]) for place, token in enumerate(ids)]
    context = model.read(prompt.token_ids)
    found = model.log_probabilities(context, ids)
    assert found == pytest.approx(expected, abs=2e-4)
    assert sum(found) / len(ids) == pytest.approx(
        model.log_probability(context, model.rows(()), ids, len(ids)), abs=1e-5
    )
