"""Second opinions and side effects of the choice: COSMIC's pick, the loss under edits."""

import xarray as xr

from workbench.analysis.selection.cosmic import sweep_cosmic
from workbench.analysis.selection.cosmic_selection import select_by_cosmic
from workbench.analysis.selection.losses import losses_with_and_without
from workbench.artifact import load_dataset
from workbench.prompts.passages import plain_passages
from workbench.study import names
from workbench.study.material import Material
from workbench.study.registry import Results
from workbench.written import estimated


def cosmic(material: Material) -> dict[str, xr.Dataset]:
    """COSMIC's scores of all candidates, on the prompts that the rule chose by, and its pick."""
    study = material.study
    scores = sweep_cosmic(
        material.model,
        material.directions,
        harmful=material.validation["harmful"],
        harmless=material.validation["harmless"],
        confidence=study.confidence,
        seed=study.seed,
        system=study.system,
    )
    pick = select_by_cosmic(scores, kl_cap=study.kl_cap, skip_last=study.skip_last)
    at_rule = (pick.table["layer"] == material.layer) & (
        pick.table["position"] == material.position
    )
    own = material.directions.at(layer=pick.layer, position=pick.position).unit().vector
    cosine = float(own.double() @ material.direction.unit().vector.double())
    return {
        "cosmic": scores.assign_attrs(
            pick=[pick.layer, pick.position],
            rule=[material.layer, material.position],
            rule_dropped=str(pick.table.loc[at_rule, "dropped"].item()),
            cosine=cosine,
            rule_scored_after=study.score_after,
            kl_cap=study.kl_cap,
            skip_last=study.skip_last,
        )
    }


def cosmic_line(results: Results, layer: int, position: int) -> str:
    """What COSMIC picks, and how near it is to what the rule chose."""
    found = results["cosmic"]
    own, rule = found.attrs["pick"], found.attrs["rule"]
    after = ""
    if found.attrs.get("rule_scored_after", "prompt") != "prompt":
        after = "; COSMIC and its KL read the end of the prompt, the rule what follows thinking"
    score = estimated(found.sel(layer=own[0], position=own[1]), "score", ".2f")
    text = f"COSMIC picks layer {own[0]}, position {own[1]} (score {score}, 2 at most)"
    if own == rule:
        return f"{text}, as the rule does{after}"
    other = estimated(found.sel(layer=rule[0], position=rule[1]), "score", ".2f")
    cosine = float(found.attrs["cosine"])
    text += f"; the rule layer {rule[0]}, position {rule[1]} (score {other}"
    if why := found.attrs["rule_dropped"]:
        text += f", dropped by COSMIC: {why}"
    return f"{text}); cosine of the two {cosine:.2f}{after}"


def losses(material: Material) -> dict[str, xr.Dataset]:
    """Cross-entropy of plain prose and of the model's own replies to harmless test prompts."""
    effects = load_dataset(material.folder / names.EFFECTS, kind="effects")
    plain = material.replies[material.replies["condition"] == "plain"]
    own = plain[plain["prompt_set"] == "harmless"]
    pairs = zip(own["prompt"].tolist(), own["reply"].tolist(), strict=True)
    said = [(prompt, reply) for prompt, reply in pairs if reply.strip()]
    texts: dict[str, object] = {"plain text": list(plain_passages())}
    if said:
        texts["own replies"] = ([prompt for prompt, _ in said], [reply for _, reply in said])
    found = losses_with_and_without(
        material.model,
        material.direction,
        texts,
        projection=effects.attrs.get("projection"),
        coefficient=effects.attrs["coefficient"],
        system=material.study.system,
        confidence=material.study.confidence,
        seed=material.study.seed,
    )
    return {"losses": found}


def losses_line(results: Results, layer: int, position: int) -> str:
    """What ablating does to the loss, beside random vectors."""
    found = results["losses"]
    told = []
    for name in found["text_set"].values:
        at = found.sel(text_set=name)
        own = at.sel(condition="ablated")
        low, high = own["change_interval"].sel(bound=["low", "high"]).values
        text = f"{name} {float(at['loss'].sel(condition='plain')):.3g} nats per token, ablated "
        text += f"{float(own['change']):+.2g} "
        text += f"[{low:.2g}, {high:.2g}]" if low == low else "(no interval)"
        if "random_change" in at:
            beside = at.sel(edit="ablated")
            every, where = beside["random_change"].values, "outside their range"
            if not bool(beside["outside"]):
                where = "within their range: no finding"
            text += f", {every.size} random vectors {every.mean():+.2g} "
            text += f"[{every.min():.2g}, {every.max():.2g}]: {where}"
        told.append(text)
    return "; ".join(told)
