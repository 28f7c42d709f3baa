"""Neural density estimators of q(theta | evidence)."""

from framework.estimators.estimator import Estimator, EstimatorSpec, spec_of
from framework.estimators.flow import Flow
from framework.estimators.gaussian import Gaussian

__all__ = ["Estimator", "EstimatorSpec", "Flow", "Gaussian", "spec_of"]
