"""Saves what training jobs save, as they save it, and checks it against what it must be.

    clients.py save DIR [SUITE...]     writes
    clients.py check DIR [SUITE...]    reads the same and compares, bit for bit; says `N checks` at the end

Suites: torch (torch.save over several files, a rename over the last one, torch.load also by mapping), dcp (PyTorch's
distributed checkpoint by two processes over gloo, and its load), safetensors (temp-then-rename, read by mapping),
memmap (numpy.memmap: created, filled through a shared mapping, patched, appended to by growing). All values follow
from a seed, so that `check` needs nothing that `save` left elsewhere: it runs on the mount, after a restart, and on
the under file system itself. A suite whose library is not installed is an error, not a skip.
"""
import os
import sys

SEED = 20260101
CHECKS = 0


def same(what, got, want):
    global CHECKS
    if not (got.dtype == want.dtype and got.shape == want.shape and (got == want).all()):
        sys.exit(f"clients: {what} differs")
    CHECKS += 1


def tensors(step):
    """The state of a small model at a step: odd sizes, several types, one tensor larger than a page."""
    import torch

    state = torch.Generator().manual_seed(SEED + step)
    return {
        "embedding": torch.randn(1021, 513, generator=state),
        "layers.0.weight": torch.randn(257, 513, generator=state).half(),
        "layers.0.bias": torch.randn(257, generator=state).double(),
        "step": torch.tensor([step]),
        "mask": torch.randint(0, 2, (3, 333), generator=state).bool(),
    }


def torch_save(place):
    import torch

    os.makedirs(place, exist_ok=True)
    for step in range(4):
        path = f"{place}/step-{step}.pt"
        torch.save({"model": tensors(step), "step": step}, path)
        # What trainers do for the newest one: write beside it, sync, rename over.
        with open(f"{place}/latest.tmp", "wb") as file:
            torch.save({"model": tensors(step), "step": step}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{place}/latest.tmp", f"{place}/latest.pt")


def torch_check(place):
    import torch

    mapped = {"mmap": True} if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 1) else {}
    for name, step in [(f"step-{step}", step) for step in range(4)] + [("latest", 3)]:
        for how in [{}, mapped]:
            loaded = torch.load(f"{place}/{name}.pt", **how)
            for key, want in tensors(step).items():
                same(f"{name}.pt {key}", loaded["model"][key], want)
    if os.path.exists(f"{place}/latest.tmp"):
        sys.exit("clients: latest.tmp is there after its rename")


def dcp_process(rank, place, act):
    """One of the processes of a distributed save or load."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("CLIENTS_PORT", "29533"))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for step in range(2):
        want = {f"rank{rank}.{key}": value for key, value in tensors(10 * step + rank).items()}
        if act == "save":
            dcp.save(want, checkpoint_id=f"{place}/step-{step}")
            continue
        got = {key: value.clone().zero_() for key, value in want.items()}
        dcp.load(got, checkpoint_id=f"{place}/step-{step}")
        for key in want:
            same(f"step {step} {key}", got[key], want[key])
    dist.barrier()
    dist.destroy_process_group()


def dcp(place, act):
    global CHECKS
    import torch.multiprocessing as processes

    processes.spawn(dcp_process, args=(place, act), nprocs=2)
    CHECKS += 2 * 2 * len(tensors(0)) if act == "check" else 0


def arrays(step):
    import numpy

    state = numpy.random.default_rng(SEED + step)
    return {
        "weight": state.standard_normal((1021, 513), dtype="f4"),
        "half": state.standard_normal((257, 513)).astype("f2"),
        "ids": state.integers(0, 1 << 40, (77, 13)),
        "empty": numpy.zeros((0, 5), dtype="f8"),
    }


def safetensors_save(place):
    from safetensors.numpy import save_file

    os.makedirs(place, exist_ok=True)
    for step in range(3):
        save_file(arrays(step), f"{place}/.model.tmp", metadata={"step": str(step)})
        os.rename(f"{place}/.model.tmp", f"{place}/model.safetensors")
        save_file(arrays(step), f"{place}/model-{step}.safetensors")


def safetensors_check(place):
    from safetensors import safe_open
    from safetensors.numpy import load_file

    for name, step in [("model", 2), ("model-0", 0), ("model-1", 1), ("model-2", 2)]:
        path = f"{place}/{name}.safetensors"
        loaded = load_file(path)
        with safe_open(path, framework="np") as mapped:
            for key, want in arrays(step).items():
                same(f"{name} {key}", loaded[key], want)
                same(f"{name} {key}, mapped", mapped.get_tensor(key), want)


LENGTH, MORE = 3_000_001, 500_000


def memmap_values(numpy):
    values = numpy.arange(LENGTH + MORE, dtype="u4") * 2654435761
    values[1000:2000] = 7
    values[LENGTH - 5 : LENGTH + 5] = 9
    return values


def memmap_save(place):
    import numpy

    os.makedirs(place, exist_ok=True)
    values = memmap_values(numpy)
    mapped = numpy.memmap(f"{place}/array", dtype="u4", mode="w+", shape=(LENGTH,))
    mapped[:] = numpy.arange(LENGTH, dtype="u4") * 2654435761
    mapped[1000:2000] = 7
    mapped.flush()
    del mapped
    grown = numpy.memmap(f"{place}/array", dtype="u4", mode="r+", shape=(LENGTH + MORE,))
    grown[LENGTH:] = values[LENGTH:]
    grown[LENGTH - 5 : LENGTH + 5] = 9
    private = numpy.memmap(f"{place}/array", dtype="u4", mode="c")
    private[:] = 0
    grown.flush()


def memmap_check(place):
    import numpy

    same("array", numpy.memmap(f"{place}/array", dtype="u4", mode="r"), memmap_values(numpy))
    same("array, read", numpy.fromfile(f"{place}/array", dtype="u4"), memmap_values(numpy))


SUITES = {
    "torch": {"save": torch_save, "check": torch_check},
    "dcp": {"save": lambda place: dcp(place, "save"), "check": lambda place: dcp(place, "check")},
    "safetensors": {"save": safetensors_save, "check": safetensors_check},
    "memmap": {"save": memmap_save, "check": memmap_check},
}


def main():
    act, place, *suites = sys.argv[1:]
    for suite in suites or SUITES:
        SUITES[suite][act](f"{place}/{suite}")
    if act == "check":
        print(f"{CHECKS} checks")


if __name__ == "__main__":
    main()
