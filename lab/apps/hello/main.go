// Hello is the lab's application, the same on virtual machines and in pods. It names itself and its
// version, so that a test sees which instance answered, and it fetches a URL for a test that asks what
// this machine or pod can reach.
package main

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

// newHandler returns the routes of an instance.
func newHandler(version, instance string, client *http.Client) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello version: %s, instance: %s\n", version, instance)
	})
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	routes.HandleFunc("GET /fetch", func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.URL.Query().Get("u"), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response, err := client.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		if _, err := io.Copy(w, response.Body); err != nil {
			log.Printf("relay %s: %v", request.URL, err)
		}
	})
	return routes
}

func main() {
	instance, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	// A connection per request: each one is balanced, and policed, on its own.
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	server := &http.Server{
		Addr:              ":" + cmp.Or(os.Getenv("PORT"), "8080"),
		Handler:           newHandler(cmp.Or(os.Getenv("VERSION"), "v1"), instance, client),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
