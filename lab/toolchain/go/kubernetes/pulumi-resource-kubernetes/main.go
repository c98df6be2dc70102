// Command pulumi-resource-kubernetes serves Pulumi's kubernetes provider. The module's own main embeds files that the
// module lacks; what they hold, the engine needs for nothing that this project does.
package main

import "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"

var version = "4.0.0" // by the linker

func main() {
	schema := []byte(`{"name":"kubernetes","version":"` + version + `"}`)
	provider.Serve("kubernetes", version, schema, []byte("{}"))
}
