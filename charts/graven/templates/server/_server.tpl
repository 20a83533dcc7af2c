{{/* The server's configuration. Addresses with a password in them are flags, from Secrets. */}}
{{- define "graven.server.config" -}}
{{- $c := dict "data" "/var/lib/graven/graven-data" "listen" ":8090" -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $c "tlsCert" "/etc/graven/tls/tls.crt" -}}
{{- $_ := set $c "tlsKey" "/etc/graven/tls/tls.key" -}}
{{- end -}}
{{- if .Values.chatcli.compatibility.enabled -}}
{{- $_ := set $c "anonymousRole" .Values.chatcli.compatibility.anonymousRole -}}
{{- if .Values.tls.enabled }}{{ $_ := set $c "plainListen" ":8080" }}{{ end -}}
{{- end -}}
{{- if include "graven.postgres" . -}}
{{- $_ := set $c "store" "postgres://" -}}
{{- with .Values.store.postgres.spool }}{{ if .enabled -}}
{{- $spool := dict "directory" "/var/lib/graven/spool" "persistent" true -}}
{{- if .maxBytes }}{{ $_ := set $spool "maxBytes" .maxBytes }}{{ end -}}
{{- $_ := set $c "spool" $spool -}}
{{- end }}{{ end -}}
{{- with .Values.store.postgres.deadLetter.url }}{{ $_ := set $c "deadLetter" . }}{{ end -}}
{{- end -}}
{{- if .Values.kubernetes.enabled -}}
{{- $k := dict "enabled" true -}}
{{- with .Values.kubernetes.audiences }}{{ $_ := set $k "audiences" . }}{{ end -}}
{{- with .Values.kubernetes.cache }}{{ $_ := set $k "cache" . }}{{ end -}}
{{- $_ := set $c "kubernetes" $k -}}
{{- end -}}
{{- toYaml (merge $c .Values.server.config) -}}
{{- end -}}

{{- define "graven.server.pod" -}}
metadata:
  labels: {{- merge (fromYaml (include "graven.labels" (list . "server"))) .Values.server.podLabels | toYaml | nindent 4 }}
  annotations:
    checksum/config: {{ include "graven.server.config" . | sha256sum }}
    {{- with .Values.server.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "graven.server.account" . }}
  automountServiceAccountToken: {{ .Values.kubernetes.enabled }}
  terminationGracePeriodSeconds: {{ .Values.server.terminationGracePeriodSeconds }}
  securityContext: {{- include "graven.podSecurity" . | nindent 4 }}
  {{- include "graven.pullSecrets" . | nindent 2 }}
  {{- include "graven.placement" .Values.server | nindent 2 }}
  containers:
  - name: server
    image: {{ include "graven.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [graven, serve]
    args:
    - --config=/etc/graven/config/graven.yaml
    {{- if include "graven.postgres" . }}
    - --store=$(GRAVEN_STORE)
    {{- end }}
    {{- if .Values.store.postgres.deadLetter.existingSecret }}
    - --dead-letter=$(GRAVEN_DEAD_LETTER)
    {{- end }}
    # For what is run in the pod by kubectl exec: the server is on this machine,
    # and its token in ./graven-data.
    workingDir: /var/lib/graven
    env:
    - name: GRAVEN_URL
      value: {{ include "graven.scheme" . }}://localhost:8090
    {{- if .Values.tls.enabled }}
    - name: SSL_CERT_DIR
      value: /etc/graven/ca
    {{- end }}
    {{- if include "graven.postgres" . }}
    - name: GRAVEN_STORE
      valueFrom:
        secretKeyRef:
          name: {{ .Values.store.postgres.existingSecret }}
          key: {{ .Values.store.postgres.urlKey }}
    {{- end }}
    {{- with .Values.store.postgres.deadLetter }}
    {{- if .existingSecret }}
    - name: GRAVEN_DEAD_LETTER
      valueFrom:
        secretKeyRef:
          name: {{ .existingSecret }}
          key: {{ .urlKey }}
    {{- end }}
    {{- end }}
    {{- with .Values.server.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    ports:
    - name: api
      containerPort: 8090
    {{- if eq (include "graven.plainPort" .) "plain" }}
    - name: plain
      containerPort: 8080
    {{- end }}
    startupProbe: # a server that recovers does not listen yet
      httpGet: {path: /healthz, port: api, scheme: {{ include "graven.scheme" . | upper }}}
      periodSeconds: 5
      failureThreshold: 720
    livenessProbe:
      httpGet: {path: /healthz, port: api, scheme: {{ include "graven.scheme" . | upper }}}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: api, scheme: {{ include "graven.scheme" . | upper }}}
      periodSeconds: 5
      timeoutSeconds: 5
    securityContext: {{- include "graven.containerSecurity" . | nindent 6 }}
    {{- with .Values.server.resources }}
    resources: {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
    - name: data
      mountPath: /var/lib/graven
    - name: tmp
      mountPath: /tmp
    - name: config
      mountPath: /etc/graven/config
      readOnly: true
    {{- if .Values.tls.enabled }}
    - name: tls
      mountPath: /etc/graven/tls
      readOnly: true
    - name: ca
      mountPath: /etc/graven/ca
      readOnly: true
    {{- end }}
    {{- if include "graven.postgres" . }}
    - name: keys
      mountPath: /var/lib/graven/graven-data/keys
      readOnly: true
    {{- end }}
    {{- with .Values.server.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
  {{- if eq (include "graven.server.kind" .) "Deployment" }}
  - name: data
    emptyDir: {}
  {{- end }}
  - name: tmp
    emptyDir: {}
  - name: config
    configMap:
      name: {{ include "graven.server" . }}
  {{- if .Values.tls.enabled }}
  - name: tls
    secret:
      secretName: {{ include "graven.tls.secret" . }}
      defaultMode: 0440
  - name: ca
    secret:
      secretName: {{ include "graven.tls.secret" . }}
      items:
      - {key: ca.crt, path: ca.crt}
  {{- end }}
  {{- if include "graven.postgres" . }}
  - name: keys
    secret:
      secretName: {{ .Values.store.postgres.keysSecret }}
      defaultMode: 0440
      items:
      - {key: ledger.key, path: ledger.key}
      - {key: ledger.vkey, path: ledger.vkey}
  {{- end }}
  {{- with .Values.server.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
