# SPDX-License-Identifier: Apache-2.0
"""Read ``deploy.yaml`` into typed and checked Python objects."""

from quorum.deployment.load import DeploymentError, load_deployment
from quorum.deployment.schema import Deployment, MemberSpec

__all__ = ["Deployment", "DeploymentError", "MemberSpec", "load_deployment"]
