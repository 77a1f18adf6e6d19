"""Every library held to AVX2, so that a processor with AVX-512 gives the record of one without it too."""

from __future__ import annotations

import os

AVX2 = {
    "UFM_FAST_ISA": "v3",
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


def hold_to_avx2() -> None:
    """Let the processes that are started from now on use AVX2 only."""
    os.environ.update(AVX2)


def compiler_flag() -> str:
    """Return the flag that compiles for the instructions that libraries are held to."""
    return "-march=x86-64-v3" if os.environ.get("UFM_FAST_ISA") == AVX2["UFM_FAST_ISA"] else "-march=native"
