"""Lotka-Volterra: predators and prey, counted ten times with an error of ten per cent.

Source: Lotka 1920; counts as in Lueckmann et al. 2021, task T.10.
"""

import numpy as np
from scipy.integrate import solve_ivp

COUNT_TIMES = np.arange(0.0, 20.0, 2.1)
START = 30.0, 1.0  # prey, predators
NOISE = 0.1  # of the logarithm
FEWEST, MOST = 1e-10, 1e4  # populations outside are counted as these


def simulate(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ten counts of the prey, then ten of the predators: (batch, 4) -> (batch, 20)."""
    populations = np.exp(solve(z, COUNT_TIMES)).clip(FEWEST, MOST)
    clean = np.concatenate(list(populations), axis=-1)
    return clean * np.exp(NOISE * rng.standard_normal(clean.shape))


def solve(z: np.ndarray, times: np.ndarray, rtol: float = 1e-8) -> np.ndarray:
    """Return the logarithms of prey and predators: (batch, 4) -> (2, batch, len(times)).

    theta is the prey's growth, the predation, the predators' death and their growth, per unit
    of time. Logarithms, because populations fall far below one and the error is relative. The
    batch is one system of equations, so all its rows take the same steps.
    """
    growth, predation, death, conversion = np.asarray(z, dtype=np.float64).T

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        prey, predators = np.exp(state.reshape(2, -1))
        return np.concatenate([growth - predation * predators, conversion * prey - death])

    start = np.repeat(np.log(START), len(z))
    with np.errstate(over="ignore", invalid="ignore"):  # a step that tries too far overflows, and is taken again
        solution = solve_ivp(derivative, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=rtol, atol=rtol)
    if not solution.success:
        raise ArithmeticError(f"Lotka-Volterra equations: {solution.message}")
    return solution.y.reshape(2, len(z), len(times))
