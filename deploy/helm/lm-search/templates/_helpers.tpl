{{- define "lm-search.labels" -}}
app.kubernetes.io/name: lm-search
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lm-search.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "lm-search.databaseSecret" -}}
{{- if .Values.postgres.enabled -}}
{{ .Release.Name }}-database
{{- else -}}
{{ required "database.secret: name a Secret with SEARCH_STORAGE, or try postgres.enabled=true" .Values.database.secret }}
{{- end -}}
{{- end }}

{{- define "lm-search.tokenSecret" -}}
{{ .Values.dashboard.tokenSecret | default (printf "%s-dashboard" .Release.Name) }}
{{- end }}

{{/* What all pods of this chart have in common; the argument is the user's number. */}}
{{- define "lm-search.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "lm-search.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
{{- end }}

{{- define "lm-search.env" -}}
- {name: SEARCH_OUT, value: /out}
- {name: HOME, value: /tmp}
{{- end }}

{{/* Folders that a container can write, and the study's files. */}}
{{- define "lm-search.volumeMounts" -}}
- {name: out, mountPath: /out}
- {name: tmp, mountPath: /tmp}
{{- if .Values.study.files }}
- {name: study, mountPath: /study, readOnly: true}
{{- end }}
{{- end }}

{{- define "lm-search.volumes" -}}
- name: out
{{- if .Values.volume }}
  persistentVolumeClaim: {claimName: {{ .Values.volume }}}
{{- else }}
  emptyDir: {}
{{- end }}
- {name: tmp, emptyDir: {}}
{{- end }}

{{/* Label and value of nodes that a provider may take away; pods must tolerate a taint that is the same. */}}
{{- define "lm-search.spotNodes" -}}
aks: {key: kubernetes.azure.com/scalesetpriority, value: spot}
eks: {key: eks.amazonaws.com/capacityType, value: SPOT}
gke: {key: cloud.google.com/gke-spot, value: "true"}
karpenter: {key: karpenter.sh/capacity-type, value: spot}
{{- end }}

{{/* Where workers and dashboard may connect to. */}}
{{- define "lm-search.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports: [{port: {{ .Values.networkPolicy.databasePort }}, protocol: TCP}]
{{- if .Values.artifacts }}
- ports: [{port: 443, protocol: TCP}]
{{- end }}
{{- with .Values.networkPolicy.egress }}
{{ toYaml . }}
{{- end }}
{{- end }}
