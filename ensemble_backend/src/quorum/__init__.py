# SPDX-License-Identifier: Apache-2.0
"""quorum: several LLMs in one Triton server answer a product question as one, by learned weights.

Every command of the command line is a function here: it takes typed arguments, returns a record and prints
nothing. docs/guides/python-api.md shows them at work. Names load when they are first used, so that
``import quorum`` stays cheap inside the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorum.build.openvino import BuildManifest as BuildManifest
    from quorum.build.openvino import build_openvino as build_openvino
    from quorum.build.trtllm import Tools as Tools
    from quorum.bulk.ask import ask as ask
    from quorum.bulk.dry_run import estimate_extract as estimate_extract
    from quorum.bulk.elsewhere import deployment_at as deployment_at
    from quorum.bulk.estimate import Expected as Expected
    from quorum.bulk.export.answers import ExportReport as ExportReport
    from quorum.bulk.export.delta import export_delta as export_delta
    from quorum.bulk.export.iceberg import export_iceberg as export_iceberg
    from quorum.bulk.judging.run import JudgeOptions as JudgeOptions
    from quorum.bulk.judging.run import JudgeReport as JudgeReport
    from quorum.bulk.judging.run import judge as judge
    from quorum.bulk.options import ExtractOptions as ExtractOptions
    from quorum.bulk.outputs.jsonl_answers import extraction_json as extraction_json
    from quorum.bulk.progress import JobProgress as JobProgress
    from quorum.bulk.recommend import RecommendOptions as RecommendOptions
    from quorum.bulk.recommend import RecommendReport as RecommendReport
    from quorum.bulk.recommend import recommend as recommend
    from quorum.bulk.recommend import recommend_items as recommend_items
    from quorum.bulk.recommend import recommendation_json as recommendation_json
    from quorum.bulk.report import ExtractReport as ExtractReport
    from quorum.bulk.run import extract as extract
    from quorum.decision.weights import Weights as Weights
    from quorum.deployment.json_schema import deployment_schema as deployment_schema
    from quorum.deployment.load import load_deployment as load_deployment
    from quorum.deployment.schema import Deployment as Deployment
    from quorum.distill.lessons import DistillSources as DistillSources
    from quorum.distill.options import DistillOptions as DistillOptions
    from quorum.distill.run import DistillReport as DistillReport
    from quorum.distill.run import distill_student as distill_student
    from quorum.evaluation.drift import Drift as Drift
    from quorum.evaluation.evaluate import Evaluation as Evaluation
    from quorum.evaluation.given import WeightsEvaluation as WeightsEvaluation
    from quorum.evaluation.guard import Comparison as Comparison
    from quorum.evaluation.retriever_guard import RetrieverComparison as RetrieverComparison
    from quorum.operations.apply import ApplyReport as ApplyReport
    from quorum.operations.apply import apply as apply
    from quorum.operations.build import MemberBuild as MemberBuild
    from quorum.operations.build import build_member as build_member
    from quorum.operations.build import member_builds as member_builds
    from quorum.operations.canary import CanaryOptions as CanaryOptions
    from quorum.operations.canary import CanaryReport as CanaryReport
    from quorum.operations.canary import canary_report as canary_report
    from quorum.operations.canary_retriever import RetrieverCanaryOptions as RetrieverCanaryOptions
    from quorum.operations.canary_retriever import retriever_canary_report as retriever_canary_report
    from quorum.operations.clean import clean as clean
    from quorum.operations.describe import RenderReport as RenderReport
    from quorum.operations.describe import check_machine as check_machine
    from quorum.operations.describe import render as render
    from quorum.operations.describe import validate as validate
    from quorum.operations.drift import drift as drift
    from quorum.operations.evaluate import EvaluateOptions as EvaluateOptions
    from quorum.operations.evaluate import evaluate as evaluate
    from quorum.operations.evaluate import evaluate_weights as evaluate_weights
    from quorum.operations.evaluate_retrieval import RetrievalOptions as RetrievalOptions
    from quorum.operations.evaluate_retrieval import evaluate_retrieval as evaluate_retrieval
    from quorum.operations.flywheel import FlywheelOptions as FlywheelOptions
    from quorum.operations.flywheel import flywheel as flywheel
    from quorum.operations.flywheel_report import FlywheelReport as FlywheelReport
    from quorum.operations.gateway import CallerStatus as CallerStatus
    from quorum.operations.gateway import NewKey as NewKey
    from quorum.operations.gateway import add_key as add_key
    from quorum.operations.gateway import list_keys as list_keys
    from quorum.operations.gateway import remove_key as remove_key
    from quorum.operations.gateway import serve_gateway as serve_gateway
    from quorum.operations.index import IndexOptions as IndexOptions
    from quorum.operations.index import IndexReport as IndexReport
    from quorum.operations.index import index_keyphrases as index_keyphrases
    from quorum.operations.init import InitOptions as InitOptions
    from quorum.operations.init import InitReport as InitReport
    from quorum.operations.init import init as init
    from quorum.operations.learn import LearnReport as LearnReport
    from quorum.operations.learn import learn as learn
    from quorum.operations.learn_choice import LearnOptions as LearnOptions
    from quorum.operations.look_up import AddedVotes as AddedVotes
    from quorum.operations.look_up import add_catalogue_votes as add_catalogue_votes
    from quorum.operations.plan import PlanReport as PlanReport
    from quorum.operations.plan import plan as plan
    from quorum.operations.plan import unknown_before_a_run as unknown_before_a_run
    from quorum.operations.probe import probe as probe
    from quorum.operations.probe import probe_server as probe_server
    from quorum.operations.probe import probes_of as probes_of
    from quorum.operations.rollout import WeightsDiff as WeightsDiff
    from quorum.operations.rollout import canary as canary
    from quorum.operations.rollout import connect as connect
    from quorum.operations.rollout import diff as diff
    from quorum.operations.rollout import end_canary as end_canary
    from quorum.operations.rollout import history as history
    from quorum.operations.rollout import promote as promote
    from quorum.operations.rollout import publish as publish
    from quorum.operations.rollout import retire as retire
    from quorum.operations.rollout import rollback as rollback
    from quorum.operations.status import FleetStatus as FleetStatus
    from quorum.operations.status import RetrieverStatus as RetrieverStatus
    from quorum.operations.status import ServerStatus as ServerStatus
    from quorum.operations.status import status as status
    from quorum.operations.sync import sync as sync
    from quorum.operations.tune import TuneReport as TuneReport
    from quorum.operations.tune import tune_member as tune_member
    from quorum.operations.tune_options import TuneOptions as TuneOptions
    from quorum.operations.versions import versions as versions
    from quorum.operations.votes import VotesInfo as VotesInfo
    from quorum.operations.votes import VotesMerged as VotesMerged
    from quorum.operations.votes import VotesNormalised as VotesNormalised
    from quorum.operations.votes import VotesWritten as VotesWritten
    from quorum.operations.votes import drop_members as drop_members
    from quorum.operations.votes import merge_votes as merge_votes
    from quorum.operations.votes import normalise_votes as normalise_votes
    from quorum.operations.votes import rename_members as rename_members
    from quorum.operations.votes import votes_info as votes_info
    from quorum.review.page.desk import Desk as Desk
    from quorum.review.page.desk import ReviewOptions as ReviewOptions
    from quorum.review.page.desk import ReviewReport as ReviewReport
    from quorum.review.session import GoldReport as GoldReport
    from quorum.review.session import LabelSession as LabelSession
    from quorum.review.session import SheetReport as SheetReport
    from quorum.review.session import apply_sheet as apply_sheet
    from quorum.review.session import choose_sheet as choose_sheet
    from quorum.review.web.serve import PageOptions as PageOptions
    from quorum.review.web.serve import export_review as export_review
    from quorum.review.web.serve import serve_review as serve_review
    from quorum.rollout.change import Change as Change
    from quorum.server.incidents import Incident as Incident
    from quorum.server.leftovers import Removed as Removed
    from quorum.server.metrics import metrics_of as metrics_of
    from quorum.server.supervise import serve as serve
    from quorum.server.watch import keep_serving as keep_serving
    from quorum.tune.merge_check import MergeOptions as MergeOptions
    from quorum.tune.merge_check import MergeReport as MergeReport
    from quorum.tune.merge_check import merge_adapters as merge_adapters
    from quorum_contract.errors import QuorumError as QuorumError

__version__ = "0.1.0"

_MODULES = {
    "quorum.build.openvino": ("BuildManifest", "build_openvino"),
    "quorum.build.trtllm": ("Tools",),
    "quorum.bulk.outputs.jsonl_answers": ("extraction_json",),
    "quorum.bulk.ask": ("ask",),
    "quorum.bulk.dry_run": ("estimate_extract",),
    "quorum.bulk.elsewhere": ("deployment_at",),
    "quorum.bulk.estimate": ("Expected",),
    "quorum.bulk.export.answers": ("ExportReport",),
    "quorum.bulk.export.delta": ("export_delta",),
    "quorum.bulk.export.iceberg": ("export_iceberg",),
    "quorum.bulk.judging.run": ("JudgeOptions", "JudgeReport", "judge"),
    "quorum.bulk.options": ("ExtractOptions",),
    "quorum.bulk.progress": ("JobProgress",),
    "quorum.bulk.recommend": (
        "RecommendOptions",
        "RecommendReport",
        "recommend",
        "recommend_items",
        "recommendation_json",
    ),
    "quorum.bulk.report": ("ExtractReport",),
    "quorum.bulk.run": ("extract",),
    "quorum.decision.weights": ("Weights",),
    "quorum.deployment.json_schema": ("deployment_schema",),
    "quorum.deployment.load": ("load_deployment",),
    "quorum.deployment.schema": ("Deployment",),
    "quorum.distill.lessons": ("DistillSources",),
    "quorum.distill.options": ("DistillOptions",),
    "quorum.distill.run": ("DistillReport", "distill_student"),
    "quorum.evaluation.drift": ("Drift",),
    "quorum.evaluation.evaluate": ("Evaluation",),
    "quorum.evaluation.given": ("WeightsEvaluation",),
    "quorum.evaluation.guard": ("Comparison",),
    "quorum.evaluation.retriever_guard": ("RetrieverComparison",),
    "quorum.operations.apply": ("ApplyReport", "apply"),
    "quorum.operations.build": ("MemberBuild", "build_member", "member_builds"),
    "quorum.operations.canary": ("CanaryOptions", "CanaryReport", "canary_report"),
    "quorum.operations.canary_retriever": ("RetrieverCanaryOptions", "retriever_canary_report"),
    "quorum.operations.clean": ("clean",),
    "quorum.operations.describe": ("RenderReport", "check_machine", "render", "validate"),
    "quorum.operations.drift": ("drift",),
    "quorum.operations.evaluate": ("EvaluateOptions", "evaluate", "evaluate_weights"),
    "quorum.operations.evaluate_retrieval": ("RetrievalOptions", "evaluate_retrieval"),
    "quorum.operations.flywheel": ("FlywheelOptions", "flywheel"),
    "quorum.operations.flywheel_report": ("FlywheelReport",),
    "quorum.operations.gateway": (
        "CallerStatus",
        "NewKey",
        "add_key",
        "list_keys",
        "remove_key",
        "serve_gateway",
    ),
    "quorum.operations.index": ("IndexOptions", "IndexReport", "index_keyphrases"),
    "quorum.operations.init": ("InitOptions", "InitReport", "init"),
    "quorum.operations.learn": ("LearnReport", "learn"),
    "quorum.operations.learn_choice": ("LearnOptions",),
    "quorum.operations.look_up": ("AddedVotes", "add_catalogue_votes"),
    "quorum.operations.plan": ("PlanReport", "plan", "unknown_before_a_run"),
    "quorum.operations.probe": ("probe", "probe_server", "probes_of"),
    "quorum.operations.rollout": (
        "WeightsDiff", "canary", "connect", "diff", "end_canary", "history", "promote", "publish", "retire",
        "rollback",
    ),
    "quorum.operations.status": ("FleetStatus", "RetrieverStatus", "ServerStatus", "status"),
    "quorum.operations.sync": ("sync",),
    "quorum.operations.tune": ("TuneReport", "tune_member"),
    "quorum.operations.tune_options": ("TuneOptions",),
    "quorum.operations.versions": ("versions",),
    "quorum.operations.votes": (
        "VotesInfo", "VotesMerged", "VotesNormalised", "VotesWritten", "drop_members", "merge_votes",
        "normalise_votes", "rename_members", "votes_info",
    ),
    "quorum.review.page.desk": ("Desk", "ReviewOptions", "ReviewReport"),
    "quorum.review.session": ("GoldReport", "LabelSession", "SheetReport", "apply_sheet", "choose_sheet"),
    "quorum.review.web.serve": ("PageOptions", "export_review", "serve_review"),
    "quorum.rollout.change": ("Change",),
    "quorum.server.incidents": ("Incident",),
    "quorum.server.leftovers": ("Removed",),
    "quorum.server.metrics": ("metrics_of",),
    "quorum.server.supervise": ("serve",),
    "quorum.server.watch": ("keep_serving",),
    "quorum.tune.merge_check": ("MergeOptions", "MergeReport", "merge_adapters"),
    "quorum_contract.errors": ("QuorumError",),
}  # fmt: skip
_ORIGINS = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_ORIGINS]


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ORIGINS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
