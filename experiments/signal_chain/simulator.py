"""A signal and the detector that records it, both unknown: four simulators in a graph.

    source ──► signal ──┬──────────────────► witness
                        └──► response ──► data
    calibration ──────────────►┘

Time is in seconds, frequency in hertz, amplitudes in the witness' unit.
"""

import numpy as np

NUM_SAMPLES = 128
TIMES = np.arange(1, NUM_SAMPLES + 1) / NUM_SAMPLES
DATA_NOISE = 0.05  # standard deviation of one sample
WITNESS_NOISE = 0.05  # relative


def signal(source: np.ndarray) -> np.ndarray:
    """Return one damped oscillation, A exp(-t / tau) sin(2 pi f t) for (A, f, tau): (3,) -> (128,)."""
    amplitude, frequency, decay_time = source
    return amplitude * np.exp(-TIMES / decay_time) * np.sin(2 * np.pi * frequency * TIMES)


def response(signal: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Return what a detector of gain g and lag T makes of the signal: (batch, 128), (batch, 2) -> (batch, 128).

    T dr/dt = g s - r, solved exactly for a signal that is constant from one sample to the next.
    """
    gain, lag = calibration.T
    memory = np.exp(-1 / (NUM_SAMPLES * lag))
    recorded = np.empty_like(signal)
    level = np.zeros_like(gain)
    for step in range(NUM_SAMPLES):
        level = memory * level + (1 - memory) * gain * signal[:, step]
        recorded[:, step] = level
    return recorded


def data(response: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the recording with white noise: (batch, 128) -> (batch, 128)."""
    return response + DATA_NOISE * rng.standard_normal(response.shape)


def witness(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a power meter's reading, the root mean square of the signal within 5%: (batch, 128) -> (batch, 1)."""
    power = np.sqrt(np.mean(signal**2, axis=-1, keepdims=True))
    return power * (1 + WITNESS_NOISE * rng.standard_normal(power.shape))
