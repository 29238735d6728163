{{- define "quorum.name" -}}
{{ .Values.nameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "quorum.root" -}}/srv/quorum{{- end }}

{{/* deploy.yaml, as given */}}
{{- define "quorum.deployText" -}}
{{ .Values.deployment | default (.Files.Get "files/deploy.yaml") }}
{{- end }}

{{/* What the chart reads of deploy.yaml, checked; templates say `include "quorum.facts" . | fromYaml`. */}}
{{- define "quorum.facts" -}}
{{- $spec := include "quorum.deployText" . | fromYaml }}
{{- if hasKey $spec "Error" }}{{ fail (printf "deployment: not YAML: %s" $spec.Error) }}{{ end }}
{{- if not $spec.members }}{{ fail "deployment: no members; give the file with --set-file deployment=deploy.yaml" }}{{ end }}
{{- $server := $spec.server | default dict }}
{{- $gateway := $spec.gateway | default dict }}
{{- $metrics := $server.metrics | default dict }}
{{- range $key := list "grpc_port" "metrics_port" }}
{{- if and (hasKey $server $key) (not (get $server $key)) }}
{{ fail (printf "deployment: server.%s: a free port is found by no Service; name one" $key) }}
{{- end }}
{{- end }}
{{- $grpcPort := int (default 8001 $server.grpc_port) }}
{{- $tritonPort := int (default 8002 $server.metrics_port) }}
{{- $probePort := 8004 }}
{{- $metricsPort := ternary (int (default 8003 $metrics.port)) 0 (not (empty $metrics)) }}
{{- $seen := list }}
{{- range list $grpcPort $tritonPort $probePort $metricsPort }}
{{- if has (int .) $seen }}
{{ fail (printf "deployment: server: grpc_port, metrics_port, metrics.port and the port of probes, %d: two of them are %d" $probePort (int .)) }}
{{- end }}
{{- $seen = append $seen (int .) }}
{{- end }}
grpcPort: {{ $grpcPort }}
tritonPort: {{ $tritonPort }}
probePort: {{ $probePort }}
metricsPort: {{ $metricsPort }}
repository: {{ $spec.repository | default "model_repository" | quote }}
fleet: {{ not (empty $spec.fleet) }}
gateway: {{ not (empty $gateway) }}
gatewayGrpc: {{ int (default 0 $gateway.grpc_port) }}
gatewayHttp: {{ int (default 0 $gateway.http_port) }}
keys: {{ $gateway.keys | default "keys.json" | quote }}
tls: {{ toJson ($gateway.tls | default dict) }}
{{- if and $server.metrics (ne (toString $metrics.host) "0.0.0.0") }}
{{ fail "deployment: server.metrics.host: Prometheus is another pod; write `metrics: {host: 0.0.0.0, port: 8003}`" }}
{{- end }}
{{- if $gateway }}
{{- if ne (toString $gateway.host) "0.0.0.0" }}
{{ fail "deployment: gateway.host: callers are other pods; write `host: 0.0.0.0`" }}
{{- end }}
{{- if not (or $gateway.grpc_port $gateway.http_port) }}
{{ fail "deployment: gateway: name a grpc_port or an http_port: a Service needs a fixed one" }}
{{- end }}
{{- if eq (dir ($gateway.keys | default "keys.json")) "." }}
{{ fail "deployment: gateway.keys: a Secret is mounted as a folder; write `keys: keys/keys.json`" }}
{{- end }}
{{- with ($gateway.request_log | default dict).path }}
{{- $log := clean (include "quorum.path" (list $ .)) }}
{{- if not (has (dir $log) (list "/tmp" (printf "%s/.quorum" (include "quorum.root" $)))) }}
{{ fail "deployment: gateway.request_log.path: a gateway writes to .quorum and /tmp only; write `path: .quorum/requests.jsonl`" }}
{{- end }}
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
{{ fail "networkPolicy.enabled: with a gateway Triton listens to its pods without a key; leave the policy on" }}
{{- end }}
{{- end }}
{{- if or (gt (int .Values.server.replicas) 1) .Values.autoscaling.enabled }}
{{- if not .Values.repository.shared }}
{{ fail "server.replicas: several servers change weights together, by one volume; set repository.shared=true" }}
{{- end }}
{{- if not (and $gateway $spec.fleet) }}
{{ fail (printf "deployment: several servers need a section `gateway`, and `fleet: [{grpc: \"dns:%s-fleet:%d\"}]`" (include "quorum.name" .) $grpcPort) }}
{{- end }}
{{- if not (contains (printf "%s-fleet" (include "quorum.name" .)) (toJson $spec.fleet)) }}
{{ fail (printf "deployment: fleet: names no servers of this release; write `fleet: [{grpc: \"dns:%s-fleet:%d\"}]`" (include "quorum.name" .) $grpcPort) }}
{{- end }}
{{- end }}
{{- if .Values.models.fetch }}
{{- if not (or .Values.models.claim .Values.server.extraVolumeMounts) }}
{{ fail "models.fetch: pods have a read-only root; name a volume by models.claim" }}
{{- end }}
{{- if and .Values.models.claim .Values.models.readOnly }}
{{ fail "models.readOnly: models.fetch writes there; leave one of them out" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.serverEgress) }}
{{ fail "models.fetch: servers reach no hub; write `networkPolicy: {serverEgress: [{ports: [{port: 443}]}]}`" }}
{{- end }}
{{- end }}
{{- if and (or .Values.autoscaling.enabled .Values.monitoring.serviceMonitor) (not $server.metrics) }}
{{ fail "deployment: server.metrics: autoscaling and monitoring need it; write `metrics: {host: 0.0.0.0, port: 8003}`" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{ fail "autoscaling.minReplicas: more than maxReplicas" }}
{{- end }}
{{- end }}

{{/* Labels of a component: (list . "server") */}}
{{- define "quorum.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: quorum
app.kubernetes.io/instance: {{ include "quorum.name" $ }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "quorum.labels" -}}
{{- $ := index . 0 -}}
{{ include "quorum.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ $.Chart.Name }}-{{ $.Chart.Version }}
{{- end }}

{{- define "quorum.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "quorum.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* (list . tag); a tag may be a digest */}}
{{- define "quorum.image" -}}
{{- $tag := index . 1 -}}
{{ (index . 0).Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* Pod fields that servers and gateways share: (list . "server") */}}
{{- define "quorum.pod" -}}
{{- $ := index . 0 -}}
{{- $own := index $.Values (index . 1) -}}
serviceAccountName: {{ include "quorum.name" $ }}
automountServiceAccountToken: false
# Variables such as QUORUM_PORT, which clusters make from names of Services, are not ours.
enableServiceLinks: false
securityContext:
  {{- include "quorum.podSecurity" $ | nindent 2 }}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $own.affinity }}
affinity: {{ toJson . }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "quorum.selector" . | nindent 8 }}
{{- end }}

{{- define "quorum.deployMount" -}}
- {name: deploy, mountPath: {{ include "quorum.root" . }}/deploy.yaml, subPath: deploy.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "quorum.env" -}}
- {name: QUORUM_DEPLOY, value: {{ include "quorum.root" . }}/deploy.yaml}
- {name: HOME, value: /tmp}
{{- end }}

{{/* A path of deploy.yaml, which is relative to the file: (list . path) */}}
{{- define "quorum.path" -}}
{{- $path := index . 1 -}}
{{- if hasPrefix "/" $path -}}{{ $path }}{{- else -}}{{ include "quorum.root" (index . 0) }}/{{ $path }}{{- end -}}
{{- end }}
