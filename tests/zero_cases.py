"""One small training, twice: by the real engine and target, and as a plain loop of the equations.

The network has a frozen layer, one that is several in one, odd sizes, and a matrix large enough
for ZeRO 3 to share out (DeepSpeed keeps parameters of up to 100,000 entries on every rank).
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pretrain.ema import Target
from pretrain.engine import Engine, EngineSettings
from pretrain.models.heads import GroupedLinear
from pretrain.optim import OptimConfig, build_optimizer

SAMPLES, STEPS, HALF, SPOILT = 48, 50, 25, 17
"""Of a batch; optimizer steps; where state is written; the batch that must be passed over."""

OPTIM = OptimConfig(learning_rate=2e-3, weight_decay=0.05, eps=1e-6, max_gradient_norm=0.5)


@dataclass(frozen=True, kw_only=True)
class Case:
    stage: int
    precision: str = "fp32"
    accumulation_steps: int = 1
    tau: float = 0.9

    @property
    def name(self):
        return f"{self.stage}-{self.precision}-{self.accumulation_steps}-{self.tau}"


STAGES = range(4)
FLOAT32 = [
    Case(stage=s, accumulation_steps=a, tau=t) for s in STAGES for a, t in ((1, 0.9), (4, 0.999))
]
BFLOAT16 = [Case(stage=s, precision="bf16", accumulation_steps=2, tau=0.996) for s in STAGES]
CASES = FLOAT32 + BFLOAT16
RESUMED = [case for case in CASES if case.accumulation_steps < 4]


class Followed(nn.Module):
    """What the target has too."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 307).requires_grad_(False)
        self.encoder = nn.Linear(307, 331)
        self.projector = nn.Sequential(
            nn.Linear(331, 13), nn.LayerNorm(13), nn.ReLU(), nn.Linear(13, 7)
        )

    def forward(self, rows):
        return self.projector(F.gelu(self.encoder(torch.tanh(self.stem(rows)))))


class Online(nn.Module):
    def __init__(self, followed):
        super().__init__()
        self.followed = followed
        self.predictor = GroupedLinear(2, 7, 7)

    def forward(self, rows, wanted):
        projections = self.followed(rows)
        predictions = self.predictor(projections.expand(2, 1, -1, -1))[:, 0].float()
        return (2.0 - 2.0 * F.cosine_similarity(predictions, wanted.float(), dim=-1)).mean()


class TargetNetwork(nn.Module):
    def __init__(self, followed):
        super().__init__()
        self.followed = copy.deepcopy(followed)

    def forward(self, rows):
        return self.followed(rows)


def networks():
    torch.manual_seed(0)
    followed = Followed()
    return Online(followed), TargetNetwork(followed)


def batches():
    """Two views of each sample; one batch has a sample without numbers."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(STEPS + 1, 2, SAMPLES, 5, generator=generator)
    rows[SPOILT, :, -1] = math.nan
    return list(rows)


def oracle(base_tau):
    """Weights of both networks after `STEPS` steps of a plain loop in one process."""
    online, target = networks()
    trained = {name: p for name, p in online.named_parameters() if p.requires_grad}
    decayed = [p for p in trained.values() if p.ndim > 1 and p is not online.predictor.bias]
    others = [p for p in trained.values() if all(p is not one for one in decayed)]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=2e-3, betas=(0.9, 0.98), eps=1e-6,
    )  # fmt: skip
    average = {name: p.detach().double() for name, p in target.named_parameters()}
    step = 0
    for first, second in batches():
        with torch.no_grad():
            wanted = target(second)
        adam.zero_grad()
        online(first, wanted).backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in trained.values()))
        if not math.isfinite(norm):
            continue
        for p in trained.values():
            p.grad *= min(1.0, 0.5 / norm)
        adam.step()
        weights = dict(online.named_parameters())
        average = {
            name: follow(value, weights[name], base_tau, step) for name, value in average.items()
        }
        target.load_state_dict({name: value.float() for name, value in average.items()})
        step += 1
    assert step == STEPS
    return {name: p.detach() for name, p in online.named_parameters()}, average


def follow(average, weight, base_tau, step):
    """Equation 1 of Grill et al. 2020, in float64."""
    tau = 1.0 - (1.0 - base_tau) * (math.cos(math.pi * step / STEPS) + 1.0) / 2.0
    return tau * average + (1.0 - tau) * weight.detach().double()


class RoundedTarget(Target):
    """Its masters are rounded to bfloat16 after every update."""

    def update(self, online):
        super().update(online)
        for master in self.masters:
            master.value.copy_(master.value.bfloat16())


class Trained:
    """One rank of a training by the real engine and target."""

    def __init__(self, case):
        online, network = networks()
        world = dist.get_world_size()
        settings = EngineSettings(
            micro_samples=SAMPLES // world // case.accumulation_steps,
            accumulation_steps=case.accumulation_steps,
            max_gradient_norm=OPTIM.max_gradient_norm,
            precision=case.precision,
            zero_stage=case.stage,
        )
        self.case, self.step = case, 0
        self.engine = Engine(online, build_optimizer(online, OPTIM), settings)
        self.dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        self.target, self.rounded = (
            kind(copy.deepcopy(network), case.tau, STEPS, self.dtype, self._shared_out())
            for kind in (Target, RoundedTarget)
        )
        self.replayed = {name: value.double() for name, value in self.target.full_masters().items()}

    def _shared_out(self):
        return None if self.engine.replicated else self.engine.master_fragments()

    def until(self, step):
        """Train up to an optimizer step; weights of both networks are told then."""
        for rows in batches()[self.step + (self.step > SPOILT) :]:
            if self.step == step:
                break
            if self._train(rows):
                self.target.set_pace(self.step)
                self.target.update(self.engine.master_fragments())
                if self.case.precision == "bf16":
                    self._replay()
                self.step += 1
        return self.weights()

    def weights(self):
        online, target = self.engine.master_parameters(), self.target.full_masters()
        return named(online=dict(online), target=target)

    def _train(self, rows):
        mine = rows.chunk(self.engine.world_size, dim=1)[self.engine.rank]
        applied = False
        for first, second in mine.to(self.dtype).split(self.engine_rows, dim=1):
            with torch.no_grad():
                wanted = self.target.network(second)
            self.engine.backward(self.engine.forward(first, wanted))
            applied = self.engine.step()
        return applied

    @property
    def engine_rows(self):
        return SAMPLES // self.engine.world_size // self.case.accumulation_steps

    def _replay(self):
        self.rounded.set_pace(self.step)
        self.rounded.update(self.engine.master_fragments())
        online = dict(self.engine.master_parameters())
        self.replayed = {
            name: follow(value, online[name], self.case.tau, self.step)
            for name, value in self.replayed.items()
        }

    def save(self, folder):
        for write in (self.engine.snapshot(), self.target.snapshot()):
            write(folder)
        dist.barrier()

    def load(self, folder, step):
        self.engine.load(folder)
        self.target.load(folder)
        self.step = step
        return self


def named(**by_prefix):
    return {f"{p}/{n}": v for p, named in by_prefix.items() for n, v in named.items()}


def run_case(case, folder):
    """Train a case, write its state half way, and its weights at the end. On all ranks."""
    told = {}
    trained = Trained(case)
    trained.until(HALF)
    trained.save(folder / case.name)
    told |= named(final=trained.until(STEPS))
    if case.precision == "bf16":
        told |= named(replayed=trained.replayed, rounded=trained.rounded.full_masters())
        copies = {n: p.float() for n, p in trained.target.network.named_parameters()}
        told |= named(working=copies)
    trained.engine.close()
    if case in RESUMED:
        resumed = Trained(case).load(folder / case.name, HALF)
        told |= named(resumed=resumed.until(STEPS))
        resumed.engine.close()
    if dist.get_rank() == 0:
        kept = {name: value.clone().contiguous() for name, value in told.items()}
        save_file(kept, folder / f"{case.name}.safetensors")


def move(case, stage, written, folder):
    """Load a case's state, which other ranks wrote, at another stage; write it, and train on.

    In bfloat16 there is nothing to compare the training with.
    """
    other = Trained(replace(case, stage=stage)).load(written / case.name, HALF)
    name = f"{case.name}-to-{stage}"
    other.save(folder / name)
    final = other.until(STEPS if case.precision == "fp32" else HALF)
    other.engine.close()
    if dist.get_rank() == 0:
        save_file({n: v.clone() for n, v in final.items()}, folder / f"{name}.safetensors")
