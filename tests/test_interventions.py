"""Interventions against hand-written hooks on plain Hugging Face, and the laws that they keep."""

import contextlib
import copy
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.activations import collect_activations
from workbench.directions.direction import Directions
from workbench.errors import AxisError, ModelError, StudyError
from workbench.interventions import Ablate, Add, SetProjection, intervene, mean_projection
from workbench.models.generate import generate_ids
from workbench.models.loading.load import load_model
from workbench.models.tokens import TokenSubset

SUBSETS = get_args(TokenSubset)
PROMPTS = ["How far is the sea?", "hi", "42 plus 7"]
FEW = ("llama", "gemma3", "gpt_neox", "gpt2")
KINDS = ("llama", "gemma2", "gpt_neox", "gpt2")  # plain, post-norm, parallel, learned positions
STREAM = ("resid_pre", "attn_out", "mlp_out")


def direction(model, seed=0, layer=1, site="resid_pre", length=3.0):
    """One random vector that fits the model."""
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    values = (length * vector / vector.norm()).reshape(1, 1, 1, -1)
    return Directions(values, ("r",), (layer,), (-1,), site)


INTERVENTIONS = {
    "ablate": lambda r, tokens: Ablate(r, tokens=tokens),
    "add": lambda r, tokens: Add(r, coefficient=1.5, tokens=tokens),
    "set": lambda r, tokens: SetProjection(r, value=4.0, tokens=tokens),
}


def columns(tokens, subset, width):
    """By hand: which columns of a sequence of that width the subset names."""
    prompt = tokens.ids.shape[1]
    chosen = torch.zeros(len(tokens), width, dtype=torch.bool)
    for row in range(len(tokens)):
        start = prompt - int(tokens.mask[row].sum())
        first, last = {
            "all": (start, width),
            "prompt": (start, prompt),
            "instruction": (start + tokens.n_pre, prompt - tokens.n_post),
            "post_instruction": (prompt - tokens.n_post, prompt),
            "last": (prompt - 1, prompt),
            "t_inst": (prompt - tokens.n_post - 1, prompt - tokens.n_post),
            "generated": (prompt, width),
        }[subset]
        chosen[row, first:last] = True
    return chosen.unsqueeze(-1)


@contextlib.contextmanager
def by_hand(specimen, kind, r, tokens, subset):
    """The same intervention as forward hooks on the plain Hugging Face model."""
    vector, unit = r.vector, r.vector / r.vector.norm()

    def edited(x):
        along = (x @ unit)[..., None] * unit
        change = {"ablate": -along, "add": 1.5 * vector, "set": 4.0 * unit - along}[kind]
        return torch.where(columns(tokens, subset, x.shape[1]), x + change, x)

    def before(module, args):
        return edited(args[0]), *args[1:]

    def after(module, args, output):
        return (edited(output[0]), *output[1:]) if isinstance(output, tuple) else edited(output)

    handles = [specimen.blocks[0 if kind == "ablate" else 1].register_forward_pre_hook(before)]
    if kind == "ablate":
        for layer in range(len(specimen.blocks)):
            for site in ("attn_out", "mlp_out"):
                handles.append(specimen.part(layer, site).register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def greedy(specimen, tokens, n_new):
    """Greedy replies of the plain model, token by token, without a KV cache."""
    ids, mask = tokens.ids, tokens.mask
    stopped = torch.zeros(len(ids), dtype=torch.bool)
    while ids.shape[1] < tokens.ids.shape[1] + n_new and not stopped.all():
        logits, _ = specimen.read(ids, mask)
        token = torch.where(stopped, 0, logits[:, -1].argmax(-1))
        stopped |= token == specimen.model.tokenizer.eos_token_id
        ids = torch.cat([ids, token[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return ids[:, tokens.ids.shape[1] :]


def read_stream(model, tokens):
    """Every site of every layer that is written to the stream, as later hooks see it."""
    found = {}
    hooks = [
        (site, layer, lambda x, key=(site, layer): found.__setitem__(key, x.clone()))
        for site in STREAM
        for layer in range(model.n_layers)
    ]
    with model.hooks(hooks):
        model.forward(tokens)
    return found


def n_hooks(model):
    """Hooks anywhere in the model, TransformerLens' and torch's."""
    modules = [*model.network.modules(), *model.bridge.modules()]
    return sum(
        len(module._forward_hooks)
        + len(module._forward_pre_hooks)
        + len(getattr(module, "fwd_hooks", ()))
        for module in modules
    )


@pytest.mark.parametrize("kind", INTERVENTIONS)
def test_logits_equal_hand_written_hooks(specimen, kind):
    model = specimen.model
    tokens, r = model.tokens(PROMPTS), direction(model)
    with intervene(model, INTERVENTIONS[kind](r, "all")):
        found = model.forward(tokens)
    with by_hand(specimen, kind, r, tokens, "all"):
        expected, _ = specimen.read(tokens.ids, tokens.mask)
    torch.testing.assert_close(found, expected[:, -1], rtol=2e-4, atol=2e-4)
    assert (found - model.forward(tokens)).abs().max() > 0.05


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("kind", INTERVENTIONS)
@pytest.mark.parametrize("name", FEW)
def test_every_subset_equals_hand_written_hooks(zoo, name, kind, subset):
    specimen = zoo[name]
    model = specimen.model
    tokens, r = model.tokens(PROMPTS), direction(model)
    intervention = INTERVENTIONS[kind](r, subset)
    with by_hand(specimen, kind, r, tokens, subset):
        logits, _ = specimen.read(tokens.ids, tokens.mask)
        replies = greedy(specimen, tokens, 5)
    with intervene(model, intervention):
        torch.testing.assert_close(model.forward(tokens), logits[:, -1], rtol=2e-4, atol=2e-4)
        assert torch.equal(generate_ids(model, tokens, max_new_tokens=5), replies)


@pytest.mark.parametrize("kind", INTERVENTIONS)
@pytest.mark.parametrize("name", FEW)
def test_interventions_change_replies_at_all(zoo, name, kind):
    # Else the comparison above would compare nothing.
    model = zoo[name].model
    tokens, r = model.tokens(PROMPTS), direction(model)
    plain = generate_ids(model, tokens, max_new_tokens=5)
    changed = {}
    for subset in SUBSETS:
        with intervene(model, INTERVENTIONS[kind](r, subset)):
            changed[subset] = generate_ids(model, tokens, max_new_tokens=5)
    assert not torch.equal(changed["all"], plain)
    assert len({ids.numpy().tobytes() for ids in changed.values()}) > 2
    assert torch.equal(changed["generated"][:, 0], plain[:, 0])


@pytest.mark.parametrize("name", FEW)
def test_replies_in_batches_equal_replies_one_by_one(zoo, name):
    model = copy.copy(zoo[name].model)
    r = direction(model)
    with intervene(model, Add(r, coefficient=2.0, tokens="instruction")):
        together = model.generate(PROMPTS, max_new_tokens=4)
        model.batch_tokens = 1
        assert model.generate(PROMPTS, max_new_tokens=4) == together


def test_afterwards_the_model_is_bit_for_bit_as_before(specimen):
    model = specimen.model
    tokens, hooks = model.tokens(PROMPTS), n_hooks(model)
    before, r = model.forward(tokens), direction(model)
    with intervene(model, Ablate(r), Add(r), SetProjection(r, value=1.0)) as same:
        assert same is model
        assert n_hooks(model) > hooks
        model.forward(tokens)
        model.generate(PROMPTS, max_new_tokens=2)
    assert n_hooks(model) == hooks
    assert torch.equal(model.forward(tokens), before)


@pytest.mark.parametrize("where", ["block", "forward"])
def test_an_exception_takes_the_hooks_out_too(zoo, where):
    model = zoo["llama"].model
    tokens, hooks = model.tokens(PROMPTS), n_hooks(model)
    before = model.forward(tokens)

    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), intervene(model, Ablate(direction(model))):
        if where == "forward":
            with model.hooks([("mlp_out", 1, fail)]):
                model.generate(PROMPTS)
        raise ZeroDivisionError
    assert n_hooks(model) == hooks
    assert model.current is None
    assert torch.equal(model.forward(tokens), before)


def test_blocks_can_be_nested(zoo):
    model = zoo["llama"].model
    tokens, hooks = model.tokens(PROMPTS), n_hooks(model)
    first, second = Add(direction(model, 1)), Add(direction(model, 2))
    before = model.forward(tokens)
    with intervene(model, first):
        outer = model.forward(tokens)
        with pytest.raises(ZeroDivisionError), intervene(model, second):
            inner = model.forward(tokens)
            raise ZeroDivisionError
        assert torch.equal(model.forward(tokens), outer)
        with intervene(model, second):
            assert torch.equal(model.forward(tokens), inner)
    assert n_hooks(model) == hooks
    assert torch.equal(model.forward(tokens), before)
    with intervene(model, first, second):
        assert torch.equal(model.forward(tokens), inner)


def test_interventions_act_in_the_order_given(zoo):
    model = zoo["llama"].model
    tokens, r = model.tokens(PROMPTS), direction(model, layer=0)
    with intervene(model, Ablate(r)):
        ablated = model.forward(tokens)
    with intervene(model, Add(r), Ablate(r)):
        torch.testing.assert_close(model.forward(tokens), ablated, rtol=1e-4, atol=1e-4)
    with intervene(model, Ablate(r), Add(r)):
        assert (model.forward(tokens) - ablated).abs().max() > 0.05


def test_ablation_leaves_no_projection(specimen):
    model = specimen.model
    tokens, r = model.tokens(PROMPTS), direction(model)
    before = read_stream(model, tokens)
    with intervene(model, Ablate(r)):
        after = read_stream(model, tokens)
    unit = r.unit().vector
    for key, x in after.items():
        scale = before[key].norm(dim=-1).max().item()
        assert (before[key] @ unit).abs().max() > 1e-3 * scale
        assert (x @ unit)[tokens.mask].abs().max() < 2e-6 * max(1.0, scale), key


def test_ablation_is_idempotent(specimen):
    model = specimen.model
    tokens, r = model.tokens(PROMPTS), direction(model)
    with intervene(model, Ablate(r)):
        once = model.forward(tokens)
        with intervene(model, Ablate(r)):
            torch.testing.assert_close(model.forward(tokens), once, rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(scale=st.floats(1e-3, 1e3), strength=st.floats(0, 1), seed=st.integers(0, 99))
def test_ablation_takes_its_share_whatever_the_length(zoo, scale, strength, seed):
    model = zoo["llama"].model
    tokens = model.tokens(PROMPTS)
    before = read_stream(model, tokens)["resid_pre", 0]
    r = direction(model, seed, length=scale)
    unit = r.unit().vector
    with intervene(model, Ablate(r, strength=strength)):
        after = read_stream(model, tokens)["resid_pre", 0]
    torch.testing.assert_close(after @ unit, (1 - strength) * (before @ unit), rtol=1e-4, atol=1e-4)
    across = after - (after @ unit)[..., None] * unit
    expected = before - (before @ unit)[..., None] * unit
    torch.testing.assert_close(across, expected, rtol=1e-4, atol=1e-4)


def test_ablation_of_some_layers_touches_no_others(zoo):
    model = zoo["llama"].model
    tokens, r = model.tokens(PROMPTS), direction(model)
    unit = r.unit().vector
    before = read_stream(model, tokens)
    with intervene(model, Ablate(r, layers=(1,))):
        after = read_stream(model, tokens)
    for site in STREAM:
        assert (after[site, 1] @ unit)[tokens.mask].abs().max() < 1e-5
        assert torch.equal(after[site, 0], before[site, 0])
    for site in ("attn_out", "mlp_out"):
        assert (after[site, 2] @ unit)[tokens.mask].abs().max() > 0.01


def test_ablation_of_layers_with_a_gap_between_them_touches_each_of_them_and_not_the_gap(zoo):
    model = zoo["llama"].model
    tokens, r = model.tokens(PROMPTS), direction(model)
    unit = r.unit().vector
    with intervene(model, Ablate(r, layers=(0, 2))):
        after = read_stream(model, tokens)
    for site in STREAM:
        for layer in (0, 2):
            assert (after[site, layer] @ unit)[tokens.mask].abs().max() < 1e-5, (site, layer)
    for site in ("attn_out", "mlp_out"):
        assert (after[site, 1] @ unit)[tokens.mask].abs().max() > 0.01


@settings(max_examples=15)
@given(seed=st.integers(0, 99), layer=st.integers(0, 2), site=st.sampled_from(STREAM))
def test_adding_nothing_changes_nothing(zoo, seed, layer, site):
    model = zoo["llama"].model
    tokens = model.tokens(PROMPTS)
    r = direction(model, seed, layer)
    for subset in SUBSETS:
        with intervene(model, Add(r, coefficient=0.0, tokens=subset, site=site)):
            found = model.forward(tokens)
        assert torch.equal(found, model.forward(tokens))


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("site", STREAM)
@pytest.mark.parametrize("name", KINDS)
def test_add_moves_exactly_the_chosen_tokens_and_nothing_before(zoo, name, site, subset):
    model = zoo[name].model
    tokens, r = model.tokens(PROMPTS), direction(model, site=site)
    before = read_stream(model, tokens)
    with intervene(model, Add(r, coefficient=-2.0, tokens=subset)):
        after = read_stream(model, tokens)
    chosen = columns(tokens, subset, tokens.ids.shape[1])
    expected = torch.where(chosen, before[site, 1] - 2.0 * r.vector, before[site, 1])
    found = after[site, 1]
    torch.testing.assert_close(found[tokens.mask], expected[tokens.mask], rtol=1e-5, atol=1e-5)
    if subset != "all":
        untouched = ~chosen.squeeze(-1)
        assert torch.equal(found[untouched], before[site, 1][untouched])
    for earlier in STREAM:
        assert torch.equal(after[earlier, 0], before[earlier, 0])


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("name", KINDS)
def test_set_projection_sets_it(zoo, name, subset):
    model = zoo[name].model
    tokens, r = model.tokens(PROMPTS), direction(model)
    unit = r.unit().vector
    before = read_stream(model, tokens)["resid_pre", 1]
    with intervene(model, SetProjection(r, value=-2.5, tokens=subset)):
        after = read_stream(model, tokens)["resid_pre", 1]
    chosen = columns(tokens, subset, tokens.ids.shape[1])
    projection = torch.where(chosen.squeeze(-1), -2.5, before @ unit)
    expected = before + (projection - before @ unit)[..., None] * unit
    torch.testing.assert_close(after[tokens.mask], expected[tokens.mask], rtol=1e-5, atol=1e-5)


def test_layer_and_site_are_the_directions_own_by_default(zoo):
    model = zoo["llama"].model
    tokens, r = model.tokens(PROMPTS), direction(model, layer=2, site="mlp_out")
    for make in (Add, lambda r, **where: SetProjection(r, 1.0, **where)):
        with intervene(model, make(r)):
            own = model.forward(tokens)
        with intervene(model, make(r, layer=2, site="mlp_out")):
            assert torch.equal(model.forward(tokens), own)
        with intervene(model, make(r, layer=1)):
            assert not torch.equal(model.forward(tokens), own)


def test_half_precision_stays_half_precision(make_network, make_tokenizer):
    model = load_model(make_network("llama").bfloat16(), tokenizer=make_tokenizer())
    tokens, r = model.tokens(PROMPTS), direction(model)
    with intervene(model, Ablate(r)):
        after = read_stream(model, tokens)
    for x in after.values():
        assert x.dtype == torch.bfloat16
        # One rounding to eight bits.
        assert (x.float() @ r.unit().vector).abs().max() < 0.02 * x.float().norm(dim=-1).max()


def test_mean_projection_is_the_mean_over_prompts(zoo):
    model = zoo["llama"].model
    r = direction(model)
    single = collect_activations(model, PROMPTS, per_prompt=True)
    expected = (single.at(1, -1) @ r.unit().vector).mean()
    assert mean_projection(r, single) == pytest.approx(expected.item(), rel=1e-5)
    streamed = collect_activations(model, PROMPTS)
    assert mean_projection(r, streamed) == pytest.approx(expected.item(), rel=1e-5)
    with intervene(model, SetProjection(r, mean_projection(r, streamed), tokens="last")):
        moved = collect_activations(model, PROMPTS, per_prompt=True)
    projections = moved.at(1, -1) @ r.unit().vector
    torch.testing.assert_close(projections, expected.expand(3), rtol=1e-4, atol=1e-4)


def test_mean_projection_needs_the_same_place(zoo):
    model = zoo["llama"].model
    acts = collect_activations(model, PROMPTS, layers=[1])
    with pytest.raises(AxisError, match="read at mlp_out, the activations at resid_pre"):
        mean_projection(direction(model, site="mlp_out"), acts)
    with pytest.raises(AxisError, match="layer 2, position -1 was not collected"):
        mean_projection(direction(model, layer=2), acts)


def wide(model):
    return Directions(torch.ones(1, 1, 1, model.d_model + 1), ("r",), (1,), (-1,))


def several(model):
    return Directions(torch.ones(1, 2, 1, model.d_model), ("r",), (0, 1), (-1,))


def zero(model):
    return Directions(torch.zeros(1, 1, 1, model.d_model), ("r",), (0,), (-1,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Ablate(wide(m)), "width 33 does not fit LlamaForCausalLM: d_model is 32"),
        (lambda m: Add(several(m)), "expected one vector, found 2"),
        (lambda m: Ablate(several(m)), "expected one vector, found 2"),
        (lambda m: Ablate(zero(m)), "r at layer 0, position -1 is zero or not finite"),
        (lambda m: SetProjection(zero(m), 1.0), "is zero or not finite"),
        (lambda m: Ablate(direction(m, site="z")), "read at z does not live in the residual"),
        (lambda m: Add(direction(m), site="z"), "z is not where the stream is written"),
        (lambda m: SetProjection(direction(m), 1.0, site="z"), "z is not where the stream"),
        (lambda m: Add(direction(m), layer=3), r"no layer 3 in LlamaForCausalLM: layers 0\.\.2"),
        (lambda m: Add(direction(m, layer=7)), r"no layer 7 in LlamaForCausalLM: layers 0\.\.2"),
        (lambda m: SetProjection(direction(m), 1.0, layer=-1), r"no layer -1"),
        (lambda m: Ablate(direction(m), layers=(0, 3)), r"no layer 3"),
        (lambda m: Ablate(direction(m, layer=7)), r"no layer 7 in LlamaForCausalLM: layers 0\.\.2"),
        (lambda m: Ablate(direction(m, layer=3, site="mlp_out")), "no layer 3"),
        (lambda m: Add(direction(m, layer=7), layer=1), "no layer 7"),
        (lambda m: Add(zero(m)), "r at layer 0, position -1 is zero or not finite"),
        (lambda m: Ablate(direction(m, layer=3)), r"the output of the last block .* for cosines"),
        (lambda m: SetProjection(direction(m, layer=3), 1.0), r"last block .* for cosines"),
        (
            lambda m: Add(direction(m, layer=3)),
            r"pass layer=2 and site='mlp_out', which is written",
        ),
    ],
)
def test_what_would_write_nonsense(zoo, make, message):
    model = zoo["llama"].model
    hooks = n_hooks(model)
    with pytest.raises(AxisError, match=message), intervene(model, make(model)):
        pass
    assert n_hooks(model) == hooks


@pytest.mark.parametrize(
    ("kind", "number", "message"),
    [
        (Ablate, {"strength": 2.0}, "expected 0 to 1, found 2"),
        (Ablate, {"strength": -0.5}, "expected 0 to 1, found -0.5"),
        (Add, {"coefficient": float("inf")}, "coefficient must be a finite number"),
        (SetProjection, {"value": float("-inf")}, "value must be a finite number"),
    ],
)
def test_numbers_outside_their_meaning(zoo, kind, number, message):
    with pytest.raises(StudyError, match=message):
        kind(direction(zoo["llama"].model), **number)


def test_a_direction_after_the_last_block_is_added_where_the_error_says(zoo):
    model = zoo["llama"].model
    tokens, r = model.tokens(PROMPTS), direction(model, layer=model.n_layers)
    last = model.n_layers - 1
    found = {}
    point = [("resid_post", last, lambda x: found.__setitem__(len(found), x.clone()))]
    with model.hooks(point):
        model.forward(tokens)
        with intervene(model, Add(r, layer=last, site="mlp_out")):
            model.forward(tokens)
    torch.testing.assert_close(found[1], found[0] + r.vector, rtol=1e-5, atol=1e-5)


def test_what_is_no_intervention(zoo, unchecked):
    model = zoo["llama"].model
    with pytest.raises(
        AxisError, match="expected Ablate, Add, SetProjection or PatchHeads, found Dir"
    ):
        with intervene(model, direction(model)):
            pass
    with pytest.raises(AxisError, match="no token subset 'first': all, prompt"):
        with intervene(model, Ablate(direction(model), tokens="first")):
            pass


@pytest.mark.parametrize("subset", [subset for subset in SUBSETS if subset != "all"])
def test_a_subset_needs_a_forward_that_knows_its_tokens(zoo, subset):
    model = zoo["llama"].model
    ids = model.tokens(["hi"]).ids
    with intervene(model, Ablate(direction(model), tokens=subset)):
        with pytest.raises(ModelError, match=f"tokens='{subset}' needs to know which token is"):
            model.network(ids)
    with intervene(model, Ablate(direction(model))), torch.no_grad():
        model.network(ids)


@pytest.mark.parametrize("layers", [(), (1, 1)])
def test_layers_that_are_none_or_stand_twice_are_refused(zoo, layers):
    r = direction(zoo["llama"].model)
    with pytest.raises(AxisError, match="layers must hold at least one layer, and each once"):
        Ablate(r, strength=0.5, layers=layers)


def test_what_is_read_under_an_intervention_says_so(zoo):
    model = zoo["llama"].model
    r = direction(model)
    with intervene(model, Ablate(r, layers=(1,))), intervene(model, Add(r, coefficient=-2.0)):
        inside = wb.collect_activations(model, PROMPTS)
    first, second = inside.provenance["edits"]
    assert first["kind"] == "Ablate" and first["layers"] == [1] and first["strength"] == 1.0
    assert second["kind"] == "Add" and second["coefficient"] == -2
    assert first["vector"] == second["vector"] and len(first["vector"]) == 16
    outside = wb.collect_activations(model, ["Sing a song", "Sew"])
    assert "edits" not in outside.provenance and model.edits == ()
    with pytest.raises(AxisError, match="active while one set was read: positive Ablate, Add, neg"):
        wb.mean_difference(inside, outside)
    with intervene(model, Ablate(r, layers=(1,))), intervene(model, Add(r, coefficient=-2.0)):
        alike = wb.collect_activations(model, ["Sing a song", "Sew"])
    assert len(wb.mean_difference(inside, alike).provenance["edits"]) == 2


def test_a_direction_of_other_weights_is_named(zoo):
    model, other = zoo["llama"].model, zoo["gemma3"].model
    acts = [wb.collect_activations(other, texts) for texts in (PROMPTS, ["Sew a button"])]
    found = wb.mean_difference(*acts).at(layer=1, position=-1)
    with pytest.warns(UserWarning, match="read on .* edits .*, which has other weights"):
        with intervene(model, Add(found)):
            pass
