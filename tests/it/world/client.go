// A client in Go, driven by go.rs: `client WHAT VERSION BASE ROOT TOKEN`. What it found goes to standard output, a line a fact.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"time"
)

const tries = 20

func client(version, root string) *http.Client {
	pem, err := os.ReadFile(root)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:     version == "2",
		ExpectContinueTimeout: 30 * time.Second,
	}
	if version == "1.1" {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}
}

// The status, and the body or the error that came instead.
func ask(c *http.Client, request *http.Request) (*http.Response, string) {
	response, err := c.Do(request)
	if err != nil {
		return nil, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err.Error()
	}
	return response, string(body)
}

func request(method, url, token string, body io.Reader) *http.Request {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request
}

// Uploads that nobody may send: each answer that did not come is a line.
func refused(version, base, root string) {
	for _, size := range []int{3, 300_000, 5_000_000} {
		// A connection of its own each time, and one for all.
		shared := client(version, root)
		for try := 0; try < tries; try++ {
			c := shared
			if try%2 == 0 {
				c = client(version, root)
			}
			response, body := ask(c, request("POST", base+"/echo/up", "", bytes.NewReader(make([]byte, size))))
			if response == nil || response.StatusCode != 401 || !strings.Contains(body, "token_missing") {
				fmt.Println("lost", size, try, body)
			}
		}
	}
	fmt.Println("done")
}

func hints(version, base, root, token string) {
	asked := request("GET", base+"/echo/hinted", token, nil)
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		fmt.Println(code, header.Get("Link"))
		return nil
	}}
	response, body := ask(client(version, root), asked.WithContext(httptrace.WithClientTrace(asked.Context(), trace)))
	if response == nil {
		fmt.Println("lost", body)
		return
	}
	fmt.Println(response.StatusCode, body)
}

// Who counts what is read of it.
type counted struct {
	rest io.Reader
	read int
}

func (c *counted) Read(into []byte) (int, error) {
	n, err := c.rest.Read(into)
	c.read += n
	return n, err
}

func expects(version, base, root, token string) {
	for _, token := range []string{"", token} {
		body := &counted{rest: bytes.NewReader(make([]byte, 300_000))}
		asked := request("PUT", base+"/echo/up", token, body)
		asked.ContentLength = 300_000
		asked.Header.Set("Expect", "100-continue")
		continued := false
		trace := &httptrace.ClientTrace{Got100Continue: func() { continued = true }}
		response, said := ask(client(version, root), asked.WithContext(httptrace.WithClientTrace(asked.Context(), trace)))
		if response == nil {
			fmt.Println("lost", said)
			continue
		}
		fmt.Println(response.StatusCode, continued, body.read)
	}
}

func trailers(version, base, root, token string) {
	// A body of unknown length, so that HTTP/1.1 has somewhere to put them.
	asked := request("POST", base+"/echo/trailed", token, io.MultiReader(strings.NewReader("hello")))
	asked.Header.Set("TE", "trailers")
	asked.Trailer = http.Header{"X-Sum": {"123"}, "X-User-Id": {"root"}}
	response, body := ask(client(version, root), asked)
	if response == nil {
		fmt.Println("lost", body)
		return
	}
	fmt.Println(response.StatusCode, body, response.Trailer.Get("X-Sum"), response.Trailer.Get("X-Company-Id") == "")
}

func main() {
	what, version, base, root, token := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	switch what {
	case "refused":
		refused(version, base, root)
	case "hints":
		hints(version, base, root, token)
	case "expects":
		expects(version, base, root, token)
	case "trailers":
		trailers(version, base, root, token)
	}
}
