"""The shape of Istio's ProxyConfig, so that ours is written as protobuf's JSON writes it.

istioctl reads a ProxyConfig into its message and writes it again, which drops zero values, renames fields and
normalises durations. The shape is that of istio.io/api v1.31.1, `mesh/v1alpha1/proxy.proto`.
"""

from typing import Any

from hosts.proto_json import Enum, ListOf, MapOf, Message, Wrapped


def _enum(*names: str) -> Enum:
    return Enum({name: number for number, name in enumerate(names)})


def _address(**more: Any) -> Message:
    return Message({"address": "string", **more})


_DISABLED = Message({"disabled": Wrapped("bool")})
_ENABLED = Message({"enabled": Wrapped("bool")})
_FORWARD_CERTIFICATE = _enum(
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
)
_TLS_SETTINGS = Message(
    {
        "mode": _enum("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"),
        "clientCertificate": "string",
        "privateKey": "string",
        "caCertificates": "string",
        "credentialName": "string",
        "subjectAltNames": ListOf("string"),
        "sni": "string",
        "insecureSkipVerify": Wrapped("bool"),
        "caCrl": "string",
    }
)
_REMOTE_SERVICE = _address(
    tlsSettings=_TLS_SETTINGS,
    tcpKeepalive=Message({"probes": "uint32", "time": "duration", "interval": "duration"}),
)
_TAG_SOURCE = Message({"name": "string", "defaultValue": "string"})
_TRACING = Message(
    {
        "zipkin": _address(),
        "lightstep": _address(accessToken="string"),
        "datadog": _address(),
        "stackdriver": Message(
            {
                "debug": "bool",
                "maxNumberOfAttributes": Wrapped("int64"),
                "maxNumberOfAnnotations": Wrapped("int64"),
                "maxNumberOfMessageEvents": Wrapped("int64"),
            }
        ),
        "openCensusAgent": _address(
            context=ListOf(_enum("UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3"))
        ),
        "customTags": MapOf(
            Message(
                {"literal": Message({"value": "string"}), "environment": _TAG_SOURCE, "header": _TAG_SOURCE},
                one_of=(("literal", "environment", "header"),),
            )
        ),
        "maxPathTagLength": "uint32",
        "sampling": "double",
        "tlsSettings": _TLS_SETTINGS,
        "enableIstioTags": Wrapped("bool"),
    },
    one_of=(("zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"),),
)
_KEY_PROVIDER = Message({"pollDelay": "duration", "fallback": Wrapped("bool")})
_PROXY_HEADERS = Message(
    {
        "forwardedClientCert": _FORWARD_CERTIFICATE,
        "setCurrentClientCertDetails": Message(
            {name: Wrapped("bool") for name in ("subject", "cert", "chain", "dns", "uri")}
        ),
        "requestId": _DISABLED,
        "server": Message({"disabled": Wrapped("bool"), "value": "string"}),
        "attemptCount": _DISABLED,
        "envoyDebugHeaders": _DISABLED,
        "metadataExchangeHeaders": Message({"mode": _enum("UNDEFINED", "IN_MESH")}),
        "preserveHttp1HeaderCase": Wrapped("bool"),
        "xForwardedHost": _ENABLED,
        "xForwardedPort": _ENABLED,
    }
)
READINESS_PROBE = Message(
    {
        "initialDelaySeconds": "int32",
        "timeoutSeconds": "int32",
        "periodSeconds": "int32",
        "successThreshold": "int32",
        "failureThreshold": "int32",
        "httpGet": Message(
            {
                "path": "string",
                "port": "uint32",
                "host": "string",
                "scheme": "string",
                "httpHeaders": ListOf(Message({"name": "string", "value": "string"})),
            }
        ),
        "tcpSocket": Message({"host": "string", "port": "uint32"}),
        "exec": Message({"command": ListOf("string")}),
        "grpc": Message({"port": "uint32", "service": "string"}),
    },
    one_of=(("httpGet", "tcpSocket", "exec", "grpc"),),
)
PROXY_CONFIG = Message(
    {
        "configPath": "string",
        "binaryPath": "string",
        "serviceCluster": "string",
        "tracingServiceName": _enum("APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"),
        "drainDuration": "duration",
        "discoveryAddress": "string",
        "discoveryRefreshDelay": "duration",
        "zipkinAddress": "string",
        "statsdUdpAddress": "string",
        "envoyMetricsServiceAddress": "string",
        "proxyAdminPort": "int32",
        "availabilityZone": "string",
        "controlPlaneAuthPolicy": Enum({"NONE": 0, "MUTUAL_TLS": 1, "INHERIT": 1000}),
        "customConfigFile": "string",
        "statNameLength": "int32",
        "concurrency": Wrapped("int32"),
        "proxyBootstrapTemplatePath": "string",
        "interceptionMode": _enum("REDIRECT", "TPROXY", "NONE"),
        "tracing": _TRACING,
        "sds": Message({"enabled": "bool", "k8sSaJwtPath": "string"}),
        "envoyAccessLogService": _REMOTE_SERVICE,
        "envoyMetricsService": _REMOTE_SERVICE,
        "proxyMetadata": MapOf("string"),
        "runtimeValues": MapOf("string"),
        "statusPort": "int32",
        "extraStatTags": ListOf("string"),
        "gatewayTopology": Message(
            {
                "numTrustedProxies": "uint32",
                "forwardClientCertDetails": _FORWARD_CERTIFICATE,
                "proxyProtocol": Message({}),
            }
        ),
        "terminationDrainDuration": "duration",
        "meshId": "string",
        "readinessProbe": READINESS_PROBE,
        "proxyStatsMatcher": Message(
            {f"inclusion{kind}": ListOf("string") for kind in ("Prefixes", "Suffixes", "Regexps")}
        ),
        "holdApplicationUntilProxyStarts": Wrapped("bool"),
        "caCertificatesPem": ListOf("string"),
        "image": Message({"imageType": "string"}),
        "privateKeyProvider": Message({"cryptomb": _KEY_PROVIDER, "qat": _KEY_PROVIDER}, one_of=(("cryptomb", "qat"),)),
        "proxyHeaders": _PROXY_HEADERS,
        "fileFlushInterval": "duration",
        "fileFlushMinSizeKb": "uint32",
    },
    one_of=(("serviceCluster", "tracingServiceName"),),
)
