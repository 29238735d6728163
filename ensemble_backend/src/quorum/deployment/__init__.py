# SPDX-License-Identifier: Apache-2.0
"""``deploy.yaml``, the one place where a deployment is described, as typed and checked Python objects."""

from quorum.deployment.load import DeploymentError, load_deployment
from quorum.deployment.schema import Deployment, MemberSpec

__all__ = ["Deployment", "DeploymentError", "MemberSpec", "load_deployment"]
