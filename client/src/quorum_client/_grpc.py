# SPDX-License-Identifier: Apache-2.0
"""gRPC and Triton's messages: imported where the first client is made, since they take most of the time."""

from grpc import RpcError as RpcError
from grpc import aio as aio
from grpc import insecure_channel as insecure_channel
from grpc import secure_channel as secure_channel
from grpc import ssl_channel_credentials as ssl_channel_credentials
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub as GRPCInferenceServiceStub

pb = service_pb2
"""Triton's messages."""
