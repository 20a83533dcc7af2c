{{/* What all names begin with: the release's name, and the chart's unless it is in it. */}}
{{- define "graven.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "graven.server" -}}{{ include "graven.fullname" . }}-server{{- end -}}
{{- define "graven.operator" -}}{{ include "graven.fullname" . }}-operator{{- end -}}

{{- define "graven.server.account" -}}{{ default (include "graven.server" .) .Values.server.serviceAccount.name }}{{- end -}}
{{- define "graven.operator.account" -}}{{ default (include "graven.operator" .) .Values.operator.serviceAccount.name }}{{- end -}}
{{- define "graven.retention.account" -}}{{ default (printf "%s-retention" (include "graven.fullname" .)) .Values.retention.serviceAccount.name }}{{- end -}}

{{/* Labels by which pods are selected. Takes (list $ "component"). */}}
{{- define "graven.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Takes (list $ "component"). */}}
{{- define "graven.labels" -}}
{{- $ := index . 0 -}}
{{- with $.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "graven.selector" . }}
app.kubernetes.io/part-of: graven
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "graven.image" -}}
{{- if .Values.image.digest -}}
{{- .Values.image.repository }}@{{ .Values.image.digest -}}
{{- else -}}
{{- .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag -}}
{{- end -}}
{{- end -}}

{{/* What Pod Security restricted asks of a pod. */}}
{{- define "graven.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* And of a container. */}}
{{- define "graven.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods of a component may run. Takes the component's values. */}}
{{- define "graven.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "graven.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Whether the ledger is in PostgreSQL: "true", or nothing. */}}
{{- define "graven.postgres" -}}{{ if .Values.store.postgres.existingSecret }}true{{ end }}{{- end -}}

{{/* A StatefulSet where servers have a disk of their own, otherwise a Deployment. */}}
{{- define "graven.server.kind" -}}
{{- if and (include "graven.postgres" .) (not .Values.store.postgres.spool.enabled) -}}Deployment{{- else -}}StatefulSet{{- end -}}
{{- end -}}

{{- define "graven.tls.secret" -}}
{{- default (printf "%s-tls" (include "graven.server" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{/* Whether the chart makes the certificate itself: "true", or nothing. */}}
{{- define "graven.tls.own" -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) (not .Values.tls.certManager.issuerRef.name) -}}true{{- end -}}
{{- end -}}

{{/* Names that the server's certificate bears, one a line. */}}
{{- define "graven.tls.names" -}}
{{- $s := include "graven.server" . -}}
{{- $n := .Release.Namespace -}}
{{- $names := list $s (printf "%s.%s" $s $n) (printf "%s.%s.svc" $s $n) (printf "%s.%s.svc.%s" $s $n .Values.clusterDomain) "localhost" -}}
{{- concat $names .Values.tls.extraNames | uniq | join "\n" -}}
{{- end -}}

{{- define "graven.scheme" -}}{{ ternary "https" "http" .Values.tls.enabled }}{{- end -}}

{{/* The server's address within the cluster. */}}
{{- define "graven.url" -}}
{{ include "graven.scheme" . }}://{{ include "graven.server" . }}.{{ .Release.Namespace }}.svc:{{ .Values.server.service.port }}
{{- end -}}

{{/* The name of the port that callers without a token come by, where there is one. */}}
{{- define "graven.plainPort" -}}
{{- if .Values.chatcli.compatibility.enabled -}}{{ ternary "plain" "api" .Values.tls.enabled }}{{- end -}}
{{- end -}}

{{/* A manifest of files/ with the identities of this release in it. Takes (list $ "path"). */}}
{{- define "graven.manifest" -}}
{{- $ := index . 0 -}}
{{- $.Files.Get (index . 1)
  | replace "system:serviceaccount:graven-system:graven-operator" "<operator>"
  | replace "system:serviceaccount:graven-system:graven-retention" "<retention>"
  | replace "system:serviceaccount:chatcli-system:chatcli-superadmin" "<superadmin>"
  | replace "<operator>" (printf "system:serviceaccount:%s:%s" $.Release.Namespace (include "graven.operator.account" $))
  | replace "<retention>" (printf "system:serviceaccount:%s:%s" $.Release.Namespace (include "graven.retention.account" $))
  | replace "<superadmin>" (printf "system:serviceaccount:%s:chatcli-superadmin" $.Values.chatcli.namespace) -}}
{{- end -}}

{{/* The API servers' audit policy. */}}
{{- define "graven.auditPolicy" -}}
{{- default (include "graven.manifest" (list . "files/audit/policy.yaml")) .Values.operator.auditLog.policy -}}
{{- end -}}

{{/* The Secret with the webhook's certificate, where cert-manager makes it. */}}
{{- define "graven.webhook.secret" -}}
{{- if and .Values.operator.webhook.enabled .Values.operator.webhook.certManager.issuerRef.name -}}{{ include "graven.operator" . }}-webhook-tls{{- end -}}
{{- end -}}

{{/* The objects of a manifest with labels and, perhaps, an annotation to stay. Takes (list $ "text" "component" keep). */}}
{{- define "graven.objects" -}}
{{- $ := index . 0 -}}
{{- $component := index . 2 -}}
{{- $keep := index . 3 -}}
{{- range $text := regexSplit "(?m)^---$" (index . 1) -1 }}
{{- $object := fromYaml $text }}
{{- if $object.Error }}{{ fail (printf "%s: %s" $component $object.Error) }}{{ end }}
{{- if $object.kind }}
{{- $labels := fromYaml (include "graven.labels" (list $ $component)) }}
{{- $_ := set $object.metadata "labels" (merge (default dict $object.metadata.labels) $labels) }}
{{- if $keep }}
{{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") (default dict $object.metadata.annotations)) }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Refuses values that do not go together. */}}
{{- define "graven.check" -}}
{{- $pg := .Values.store.postgres -}}
{{- if not (include "graven.postgres" .) -}}
  {{- if gt (int .Values.server.replicas) 1 }}{{ fail "server.replicas: one server has the embedded store open; for several set store.postgres.existingSecret" }}{{ end -}}
  {{- range $field := list "keysSecret" }}{{ if index $pg $field }}{{ fail (printf "store.postgres.%s: no use without store.postgres.existingSecret" $field) }}{{ end }}{{ end -}}
  {{- if $pg.spool.enabled }}{{ fail "store.postgres.spool.enabled: no use without store.postgres.existingSecret" }}{{ end -}}
  {{- if or $pg.deadLetter.url $pg.deadLetter.existingSecret }}{{ fail "store.postgres.deadLetter: no use without store.postgres.existingSecret" }}{{ end -}}
  {{- if $pg.migrate.existingSecret }}{{ fail "store.postgres.migrate.existingSecret: no use without store.postgres.existingSecret" }}{{ end -}}
{{- else -}}
  {{- if not $pg.keysSecret }}{{ fail "store.postgres.keysSecret: required, a Secret with ledger.key and ledger.vkey, for all servers sign with one key" }}{{ end -}}
  {{- if and $pg.deadLetter.url $pg.deadLetter.existingSecret }}{{ fail "store.postgres.deadLetter: url or existingSecret, not both" }}{{ end -}}
  {{- if and $pg.spool.enabled (or $pg.deadLetter.url $pg.deadLetter.existingSecret) }}{{ fail "store.postgres.deadLetter: no use beside store.postgres.spool.enabled" }}{{ end -}}
{{- end -}}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.issuerRef.name }}{{ fail "tls.existingSecret: no use beside tls.certManager.issuerRef" }}{{ end -}}
{{- if and .Values.chatcli.compatibility.enabled .Values.server.config.anonymousRole }}{{ fail "server.config.anonymousRole: chatcli.compatibility.anonymousRole is what counts with chatcli.compatibility.enabled" }}{{ end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.tokenSecret.name) }}{{ fail "serviceMonitor.tokenSecret.name: required, a Secret with a token of the role viewer, for the server's metrics are not for everybody" }}{{ end -}}
{{- if and .Values.operator.enabled (not .Values.kubernetes.enabled) (not .Values.operator.tokenSecret.name) }}{{ fail "operator.tokenSecret.name: required without kubernetes.enabled, for the server does not know service accounts then" }}{{ end -}}
{{- if contains "." .Release.Name }}{{ fail "the release's name: it stands in the names of Services, in which no dot may be" }}{{ end -}}
{{- range $label, $_ := .Values.commonLabels }}{{ if or (hasPrefix "app.kubernetes.io/" $label) (hasPrefix "helm.sh/" $label) }}{{ fail (printf "commonLabels: %s is the chart's own" $label) }}{{ end }}{{ end -}}
{{- if and .Values.chatcli.compatibility.enabled (eq (int .Values.server.service.port) 8080) }}{{ fail "server.service.port: 8080 is the address that chatcli.compatibility serves" }}{{ end -}}
{{- if and .Values.operator.webhook.enabled (has (int .Values.operator.webhook.port) (list 8080 8081)) }}{{ fail (printf "operator.webhook.port: %d is that of metrics (8080) or health (8081)" (int .Values.operator.webhook.port)) }}{{ end -}}
{{- if and (not .Values.tls.enabled) (or .Values.tls.existingSecret .Values.tls.certManager.issuerRef.name) }}{{ fail "tls.enabled: false, and yet tls.existingSecret or tls.certManager" }}{{ end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs: required with httpRoute.enabled" }}{{ end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}{{ fail "ingress.hosts: required with ingress.enabled" }}{{ end -}}
{{- end -}}

{{/* What every component must reach: names, and the API server. */}}
{{- define "graven.egress" -}}
- ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
- ports:
  {{- range .Values.networkPolicy.apiServerPorts }}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- end -}}
