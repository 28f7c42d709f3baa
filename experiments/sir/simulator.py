"""SIR: an epidemic in a town of a million, seen through ten surveys of a thousand people.

Source: Kermack & McKendrick 1927; surveys as in Lueckmann et al. 2021, task T.9.
"""

import numpy as np
from scipy.integrate import solve_ivp

POPULATION = 1_000_000.0
SURVEY_DAYS = np.arange(0.0, 160.0, 17.0)
SURVEY_SIZE = 1000


def simulate(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how many of the people tested were infected, survey by survey: (batch, 2) -> (batch, 10)."""
    _, infected, _ = solve(z, SURVEY_DAYS)
    return rng.binomial(SURVEY_SIZE, np.clip(infected / POPULATION, 0.0, 1.0))


def solve(z: np.ndarray, days: np.ndarray, rtol: float = 1e-8) -> np.ndarray:
    """Return the susceptible, infected and recovered people: (batch, 2) -> (3, batch, len(days)).

    theta is the contact rate and the recovery rate, per day. The batch is one system of
    equations, so all its rows take the same steps. One person is infected on day 0.
    """
    contact_rate, recovery_rate = np.asarray(z, dtype=np.float64).T

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        susceptible, infected, _ = state.reshape(3, -1)
        infections = contact_rate * susceptible * infected / POPULATION
        recoveries = recovery_rate * infected
        return np.concatenate([-infections, infections - recoveries, recoveries])

    start = np.repeat([POPULATION - 1.0, 1.0, 0.0], len(z))
    # The absolute error is in people: it must be small beside the one person infected at the start.
    solution = solve_ivp(derivative, (0.0, days[-1]), start, method="DOP853", t_eval=days, rtol=rtol, atol=100 * rtol)
    if not solution.success:
        raise ArithmeticError(f"SIR equations: {solution.message}")
    return solution.y.reshape(3, len(z), len(days))
