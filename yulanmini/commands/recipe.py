"""`yulanmini recipe`: the curriculum, as data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_table, new_group, say

app = new_group()


@app.callback()
def recipe() -> None:
    """The curriculum, as data: the 28 published mixes, and any recipe of your own."""


@app.command("list", epilog="Example: yulanmini recipe list")
def list_recipes(as_json: AsJson = False) -> None:
    """List the 28 published mixes: context, subsets, tokens, and the share of each domain."""
    from data_recipes.recipes.curriculum import domain_tokens
    from data_recipes.recipes.recipe import DOMAINS, published_recipes

    entries: list[dict[str, Any]] = [
        {
            **{key: getattr(item, key) for key in ("phase", "variant", "context_length", "tokens")},
            "subsets": len(item.subsets) + len(item.unselected),
            "domains": domain_tokens(item),
        }
        for item in published_recipes()
    ]
    if as_json:
        emit_json(entries)
        return
    rows = [
        [
            item.key,
            entry["context_length"],
            entry["subsets"],
            f"{item.tokens / 1e9:.2f}B",
            *(f"{tokens / item.tokens:.1%}" for tokens in entry["domains"].values()),
        ]
        for item, entry in zip(published_recipes(), entries, strict=True)
    ]
    emit_table(["phase", "context", "subsets", "tokens", *DOMAINS], rows)


@app.command(epilog="Example: yulanmini recipe show 26-4k    or: yulanmini recipe show my-anneal.yaml --json")
def show(
    phase: Annotated[str, typer.Argument(help="1 to 27 (26 is the 28K mix), 26-4k, or a recipe file.")],
    as_json: AsJson = False,
) -> None:
    """Show one mix: each subset with its tokens, share, domain and source, in the published order."""
    from data_recipes.recipes.curriculum import as_json as shown
    from data_recipes.recipes.recipe import load_recipe

    item = load_recipe(phase)
    if as_json:
        emit_json(shown(item))
        return
    rows = [
        [
            subset.name,
            subset.tokens,
            f"{subset.tokens / item.tokens:.2%}",
            subset.domain or "",
            subset.source_name,
            "sft" if subset.sft else "",
        ]
        for subset in item.subsets
    ]
    rows += [[other.name, 0, "", other.domain, other.source, "none taken"] for other in item.unselected]
    title = f"{item.name}: {item.tokens:,} tokens, {len(rows)} subsets, context {item.context_length:,}"
    emit_table(["subset", "tokens", "share", "domain", "source", ""], rows, title=title)


@app.command(epilog="Example: yulanmini recipe export 27 > mine.yaml")
def export(
    phase: Annotated[str, typer.Argument(help="1 to 27 (26 is the 28K mix), or 26-4k.")], as_json: AsJson = False
) -> None:
    """Print a published mix as a recipe file, comments and all, to start your own from."""
    from data_recipes.recipes.recipe import load_recipe, recipe_text

    if as_json:
        emit_json(load_recipe(phase).model_dump(mode="json", exclude_none=True))
    else:
        print(recipe_text(phase), end="")


@app.command(epilog="Example: yulanmini recipe check --json")
def check(as_json: AsJson = False) -> None:
    """Check the 28 mixes against the published totals, and predict the published end-of-phase steps.

    Exit 2 when a mix differs from its published sums or a step from its published one by more than 0.5 %.
    """
    from data_recipes.errors import DataError, listed
    from data_recipes.recipes.curriculum import STEP_TOLERANCE, check_mix, check_steps, share_changes
    from data_recipes.recipes.recipe import published_recipes

    recipes = published_recipes()
    mixes = [check_mix(item) for item in recipes]
    steps = check_steps(recipes)
    changes = share_changes(recipes)
    problems = [f"phase {mix.phase}: {problem}" for mix in mixes for problem in mix.problems]
    problems += [
        f"end of phase {step.phase}: step {step.predicted:,.0f} predicted, {step.published:,} published "
        f"({step.relative_error:+.3%}; within {STEP_TOLERANCE:.1%} expected)"
        for step in steps
        if not step.ok
    ]
    if as_json:
        shown = {"mixes": list(map(vars, mixes)), "steps": list(map(vars, steps))}
        shown["share_changes"] = list(map(vars, changes))
        emit_json({"ok": not problems, "problems": problems, **shown})
    else:
        result = {True: "agrees", False: "DIFFERS"}
        columns = ["phase", "subsets", "tokens", "published=published_btokens:.2f"]
        emit_records(
            [*columns, "largest difference=largest_difference_btokens:.4f", "result"],
            [{**vars(mix), "result": result[mix.ok]} for mix in mixes],
            title="Mixes: total, six domains, instruction data (published to 0.01B; B tokens)",
        )
        print()
        columns = ["end of phase=phase", "predicted step=predicted:,.0f", "published step=published"]
        emit_records(
            [*columns, "relative error=relative_error:+.3%", "result"],
            [{**vars(step), "result": result[step.ok]} for step in steps],
            title="Steps: tokens so far / 4,128,768 (phase 26 in its 28K variant)",
        )
        print()
        wide = [change for change in changes if not change.within_3_percent]
        print(
            f"Change of shares between neighbours: within 3 % of the mix at {len(changes) - len(wide)} of "
            f"{len(changes)} boundaries" + ("; larger at" if wide else ".")
        )
        for change in wide:
            print(f"  {change.before} to {change.after}: {change.domain} {change.change:+.1%} (for information)")
    if problems:
        raise DataError(f"the recipes differ from what is published:\n{listed(problems)}")
    say(f"All {len(mixes)} mixes and {len(steps)} steps agree with what is published.")


@app.command(epilog="Example: yulanmini recipe propose runs/tiny --out next.yaml")
def propose(
    run: Annotated[Path, typer.Argument(help="A run of reproduce, or of train pretrain with held-out text.")],
    out: Annotated[Path | None, typer.Option(help="Recipe file to write, .yaml; without it, it is printed.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of the new phase; default: the last one's.")] = None,
    most_change: Annotated[float, typer.Option(min=0, max=1, help="Largest move of a domain's share.")] = 0.03,
    most_epochs: Annotated[float, typer.Option(min=0, help="Epochs of a source, all phases together.")] = 4.0,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Propose the next phase's mix: by held-out loss of each domain over the phases, and by what is left to read.

    The rule is in docs/recipes.md. The result is a recipe file with its reasons, to be read, changed and built.
    """
    from data_recipes.errors import DataError
    from data_recipes.files import write_whole
    from data_recipes.manifest import check_new_file
    from data_recipes.recipes.phases import is_annealing, phase_folder
    from data_recipes.recipes.propose import Rule, heldout_records
    from data_recipes.recipes.propose import propose as next_mix
    from train.config import PretrainConfig
    from train.config_file import load_config
    from yulanmini.run_layout import pretraining_folder

    if out is not None:
        check_new_file(out, endings=(".yaml", ".yml"))
    folder = pretraining_folder(run)
    heldout = heldout_records(folder / "heldout.jsonl")
    data = load_config(PretrainConfig, folder / "config.yaml").data.dir
    last = next((str(record["phase"]) for record in reversed(heldout) if str(record["phase"]) != "0"), None)
    if last is None:
        raise DataError(f"{folder}: no phase is finished yet, so nothing says how held-out loss goes.")
    rule = Rule(most_change=most_change, most_epochs=most_epochs, annealing=is_annealing(last))
    proposal = next_mix(heldout, data / phase_folder(last), tokens=tokens, rule=rule)
    domains = [{**vars(item), "why": "; ".join(item.reasons)} for item in proposal.domains]
    if as_json:
        emit_json({"recipe": proposal.recipe, "domains": domains})
    elif out is None:
        print(proposal.text(), end="")
    else:
        columns = ["domain", "before=share_before:.2%", "proposed=share:.2%", "epochs=epochs:.2f", "why"]
        emit_records(columns, domains)
    if out is not None:
        if not dry_run:
            write_whole(out, proposal.text())
        say(f"{'Would write' if dry_run else 'Wrote'} {out}. To build it: yulanmini data build {out} --out FOLDER")


@app.command(epilog="Example: yulanmini recipe plot curriculum.svg --by source")
def plot(
    out: Annotated[Path, typer.Argument(help="Picture to write, .svg.")],
    by: Annotated[str, typer.Option(help="domain (six) or source (families of sources).")] = "domain",
    dry_run: DryRun = False,
) -> None:
    """Draw the data distribution of every phase, as SVG."""
    from data_recipes.manifest import check_new_file
    from data_recipes.recipes.recipe import published_recipes
    from data_recipes.recipes.shares import tokens_by_family
    from yulanmini.report.pictures import PICTURE_FORMATS, draw_curriculum

    recipes = published_recipes()
    tokens_by_family(recipes[0], by=by)  # refuses an unknown way to group, also in a dry run
    check_new_file(out, endings=PICTURE_FORMATS)
    if dry_run:
        say(f"Would draw {len(recipes)} mixes by {by} to {out}.")
        return
    draw_curriculum(out, recipes, by=by)
    say(f"Wrote {out}.")
