{{- /*
The arguments of multus-installer as a list: those of `flags`, and where the folders of the nodes are others than those it
looks for by itself, where they are.
*/ -}}
{{- define "flags" -}}
{{- $flags := deepCopy .Values.flags -}}
{{- with .Values.host -}}
{{- if ne .cniBinDir "/opt/cni/bin" -}}
{{- $_ := set $flags "cni-bin-dir" (printf "/host%s" .cniBinDir) -}}
{{- end -}}
{{- if ne .cniDir "/etc/cni" -}}
{{- $_ := set $flags "cni-conf-dir" (printf "/host%s/net.d" .cniDir) -}}
{{- $_ := set $flags "multus-autoconfig-dir" (printf "/host%s/net.d" .cniDir) -}}
{{- $_ := set $flags "multus-cni-conf-dir" (printf "/host%s/multus/net.d" .cniDir) -}}
{{- $_ := set $flags "multus-kubeconfig-file-host" (printf "%s/net.d/multus.d/multus.kubeconfig" .cniDir) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $flags }}
- {{ if eq (toString $value) "true" }}{{ printf "--%s" $name | quote }}{{ else }}{{ printf "--%s=%v" $name $value | quote }}{{ end }}
{{- end }}
{{- end -}}
