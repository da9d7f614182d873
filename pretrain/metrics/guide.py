"""What each curve is, and what it should look like: for TensorBoard and for the run's report.

Over 300 lines, for it is one table.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SOURCE = "(text|image|audio|fused)"
TOWER = "(text|image|audio|fusion|heads)"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One chart.

    Attributes:
        title: Heading.
        tags: Regular expressions of whole tags; the first group, if any, names the line.
        looks: What the curve should look like, in a sentence.
        good: Healthy stretch of the value axis.
        bad: Stretch in which a stop rule holds or nearly does.
        from_zero: Whether the value axis starts at 0.
        joint: What stands in a line's name between the parts of its tag.
    """

    title: str
    tags: tuple[str, ...]
    looks: str
    good: tuple[float, float] | None = None
    bad: tuple[float, float] | None = None
    from_zero: bool = True
    joint: str = " "

    def lines(self, tags: Iterable[str]) -> dict[str, str]:
        """Label -> tag, for those of ``tags`` that belong on this chart."""
        found = {}
        for tag in tags:
            for pattern in self.tags:
                if match := re.fullmatch(pattern, tag):
                    label = match.group(1) if match.groups() else tag.rpartition("/")[2]
                    found[label.replace("_", self.joint)] = tag
        return found


@dataclass(frozen=True, kw_only=True)
class Page:
    """Charts that belong together."""

    title: str
    about: str
    curves: tuple[Curve, ...]


LOSSES = Page(
    title="1 Losses",
    about="What is minimised. A falling loss alone is no evidence: read the collapse charts too.",
    curves=(
        Curve(
            title="Total",
            tags=("loss/total",),
            looks="Falls fast, then slowly; it may step up while the cross terms are ramped in.",
        ),
        Curve(
            title="Within a modality",
            tags=("loss/intra_(.+)",),
            looks="Falls or stays level. A long rise while the cross losses fall is the sign that "
            "the towers are being levelled: a stop rule watches for it.",
        ),
        Curve(
            title="Across modalities",
            tags=("loss/cross_(.+)",),
            looks="Starts near 4, the value of chance, and falls once its weight is ramped in.",
            joint=" → ",
        ),
        Curve(
            title="Fusion",
            tags=("loss/(fused)",),
            looks="Falls; it is harder than the others where modalities are dropped often.",
        ),
        Curve(
            title="Other terms",
            tags=("loss/(?!total|intra_|cross_|fused$)(.+)",),
            looks="The terms of the baselines; a reconstruction falls, a game with a "
            "discriminator levels off.",
        ),
    ),
)

SCHEDULES = Page(
    title="2 Schedules",
    about="Pure functions of the step; they show what was asked for.",
    curves=(
        Curve(
            title="Target pace tau",
            tags=("schedule/(tau)",),
            looks="Rises from its base to 1 on half a cosine.",
            from_zero=False,
        ),
        Curve(
            title="Learning rate",
            tags=("schedule/(learning_rate)",),
            looks="A straight warm-up, then half a cosine down.",
        ),
        Curve(
            title="Weight decay",
            tags=("schedule/(weight_decay)",),
            looks="Level, or on half a cosine where an end value is given.",
        ),
    ),
)

SPREAD = "1 is even in all directions, 0 is a single point."

COLLAPSE = Page(
    title="3 Collapse",
    about="Per modality and stage, never pooled: a modality that is one point hides in a mean.",
    curves=(
        Curve(
            title="Spread of projections",
            tags=(f"health/std_projector_{SOURCE}",),
            looks=f"Std of unit vectors times root dim: {SPREAD} Stays high, above 0.5 with batch "
            "norm in the heads; falling towards 0 is collapse.",
            good=(0.5, 1.0),
            bad=(0.0, 0.1),
        ),
        Curve(
            title="Spread of the target",
            tags=(f"health/std_target_{SOURCE}",),
            looks="Follows the spread of projections with a delay; below 0.1 there is nothing "
            "left to predict.",
            good=(0.5, 1.0),
            bad=(0.0, 0.1),
        ),
        Curve(
            title="Spread of predictions",
            tags=("health/std_predictor_(.+)",),
            looks="Below that of projections, lowest where many answers fit one question, such as "
            "audio from text. Never near 0.",
            bad=(0.0, 0.01),
        ),
        Curve(
            title="Spread of features",
            tags=(f"health/std_encoder_{SOURCE}",),
            looks=f"Of the encoders, before any head: {SPREAD} Often begins low, and rises or "
            "stays.",
            good=(0.2, 1.0),
        ),
        Curve(
            title="Effective rank of projections",
            tags=(f"health/rank_projector_{SOURCE}",),
            looks="RankMe: how many directions are used, at most the rows looked at. It may dip "
            "at first; sinking to a few directions is dimensional collapse.",
            bad=(1.0, 1.5),
        ),
        Curve(
            title="Effective rank of features",
            tags=(f"health/rank_encoder_{SOURCE}",),
            looks="As above, of the encoders; rises or holds when features get richer.",
        ),
        Curve(
            title="Eigenvalue decay of features",
            tags=(f"health/alpha_encoder_{SOURCE}",),
            looks="alpha-ReQ: about 1 is the healthy middle; far above, few directions carry "
            "everything. Few rows push it up, so compare it with its own start.",
            good=(0.5, 1.5),
        ),
        Curve(
            title="Do views tell their sample?",
            tags=(f"health/separation_encoder_{SOURCE}",),
            looks="1: two views of a sample agree and samples differ. Rises. Near 0 the modality "
            "is constant, or its views destroy it.",
            good=(0.3, 1.0),
            bad=(-0.1, 0.1),
        ),
    ),
)

ALIGNMENT = Page(
    title="4 Alignment",
    about="Whether modalities of one sample find each other.",
    curves=(
        Curve(
            title="Paired minus shuffled cosine",
            tags=("health/alignment_(.+)",),
            looks="0 at the start, and rises slowly once the cross terms are in. Staying at 0 "
            "while the cross loss falls means that only the mean of the other modality is "
            "predicted.",
            good=(0.05, 1.0),
            joint=" and ",
        ),
    ),
)

WEIGHTS = Page(
    title="5 Weights and target",
    about="How far weights move, and whether the target follows.",
    curves=(
        Curve(
            title="Target update, seen over expected",
            tags=("health/(target_follow)",),
            looks="Exactly 1. Below, updates are lost, as in a bfloat16 target.",
            good=(0.95, 1.05),
        ),
        Curve(
            title="Target update, share missed",
            tags=("health/(target_error)",),
            looks="Under 0.01. It may grow to a few hundredths at the very end, where tau is "
            "nearly 1 and float32 itself rounds.",
            good=(0.0, 0.01),
            bad=(0.1, 1.0),
        ),
        Curve(
            title="Size of a step",
            tags=(f"health/update_{TOWER}",),
            looks="Change over weights, per tower: 0.001 to 0.01 at the peak of the learning "
            "rate, then falls with it. All towers within a factor of ten.",
            bad=(0.05, 1.0),
        ),
        Curve(
            title="Online minus target",
            tags=(f"health/drift_{TOWER}",),
            looks="Over the target's weights, per tower: grows early, then levels off well below "
            "1. Still 0 after warm-up means that a tower is not trained.",
            bad=(1.0, 10.0),
        ),
    ),
)

GRADIENTS = Page(
    title="6 Gradients",
    about="Whose gradients move what.",
    curves=(
        Curve(
            title="Gradient norm",
            tags=("gradient/(norm)",),
            looks="Falls in warm-up, then of one size; single spikes are clipped.",
        ),
        Curve(
            title="Batches passed over",
            tags=("gradient/(passed_over)",),
            looks="0. Each is a batch whose loss or gradient was not finite; the log names it.",
        ),
        Curve(
            title="Share of each tower",
            tags=(f"gradient/share_{TOWER}",),
            looks="No tower near 0 for long: it would not learn. The heads may lead.",
        ),
        Curve(
            title="Share of each group of terms",
            tags=("gradient/share_(intra|cross|fused|reconstruction|correlation|adversarial)",),
            looks="Cross begins at 0 and comes in with its ramp; none should drown the others.",
        ),
        Curve(
            title="Intra against cross, per tower",
            tags=(f"gradient/cosine_intra_cross_{TOWER}",),
            looks="Around 0 or above. Long below -0.5 the two pull against each other.",
            good=(-0.2, 1.0),
            bad=(-1.0, -0.5),
            from_zero=False,
        ),
    ),
)

SCORES = Page(
    title="7 Online scores",
    about="Nearest neighbours on a labelled set: what the features are worth meanwhile.",
    curves=(
        Curve(
            title="kNN score",
            tags=("knn/(.+)",),
            looks="Rises above its first value, that of fresh weights. A long fall while the loss "
            "falls is the best reason to stop.",
        ),
    ),
)

DATA = Page(
    title="8 Data and speed",
    about="Whether the loader keeps up.",
    curves=(
        Curve(
            title="Samples per second",
            tags=("speed/(samples_per_second)",),
            looks="Level. A saw-tooth is a loader that cannot keep up.",
        ),
        Curve(
            title="Share of time spent waiting for data",
            tags=("data/(wait_share)",),
            looks="Near 0; above 0.1, more workers or a faster store pay.",
            good=(0.0, 0.1),
        ),
        Curve(
            title="Slowest rank, over the median of the others",
            tags=("speed/(slowest_rank)",),
            looks="Near 1. Well above, all ranks wait for one; the log names it.",
        ),
        Curve(
            title="Mean power, in watts",
            tags=("power/(gpu|cpu)_watts",),
            looks="Level; over all GPUs, and over the CPU packages of all hosts with whatever else "
            "runs there. GPUs far below their limit wait. Absent where a counter cannot be read.",
        ),
        Curve(
            title="Substituted samples",
            tags=("data/(substitutions|retries)",),
            looks="0, or nearly.",
        ),
    ),
)

PROBES = Page(
    title="9 Probes",
    about="Probes of the checkpoints, beside this as the run named probes; in shares of 1.",
    curves=(
        Curve(
            title="Probe score on test",
            tags=("probe/(.+)/(?:macro_f1|accuracy|balanced_accuracy|weighted_f1)",),
            looks="Above the score of random weights, and rising. Intervals are in report.html.",
        ),
        Curve(
            title="The same of random weights",
            tags=("probe/(.+)/random",),
            looks="Level: the same fresh backbones each time.",
        ),
        Curve(
            title="Macro-F1 on validation",
            tags=("probe/(.+)/validation",),
            looks="Rises; the best checkpoint is where its mean over the tasks is highest.",
        ),
    ),
)

PAGES = (LOSSES, SCHEDULES, COLLAPSE, ALIGNMENT, WEIGHTS, GRADIENTS, SCORES, DATA, PROBES)


def as_markdown(page: Page) -> str:
    """A page's text panel: what each of its curves should look like."""
    rows = "\n".join(f"| {curve.title} | {curve.looks} |" for curve in page.curves)
    return f"{page.about}\n\n| curve | what it should look like |\n|---|---|\n{rows}"
