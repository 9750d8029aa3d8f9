package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed assets
var embedded embed.FS

// assets are the files of the page. Their addresses hold a hash of all of them, so that browsers may
// keep them for ever and never mix versions; the page itself is asked for each time.
type assets struct {
	version string
	files   map[string]*asset
}

// kinds are not those of package mime, which asks the system.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

type asset struct {
	data []byte
	etag string
	kind string
	once sync.Once // compressed when first asked for
	zip  []byte
}

func newAssets() *assets {
	a := &assets{files: map[string]*asset{}}
	all := sha256.New()
	files, err := fs.Sub(embedded, "assets")
	if err != nil {
		panic(err) // the name is wrong in this file
	}
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		all.Write([]byte(name + "\n"))
		all.Write(data)
		a.files[name] = newAsset(name, data)
		return err
	})
	a.version = hex.EncodeToString(all.Sum(nil)[:8])
	page := bytes.ReplaceAll(a.files["index.html"].data, []byte("{{version}}"), []byte(a.version))
	a.files["index.html"] = newAsset("index.html", page)
	return a
}

func newAsset(name string, data []byte) *asset {
	sum := sha256.Sum256(data)
	return &asset{data: data, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, kind: kinds[path.Ext(name)]}
}

func (a *assets) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	a.files["index.html"].serve(w, r)
}

func (a *assets) file(w http.ResponseWriter, r *http.Request) {
	f := a.files[r.PathValue("name")]
	if f == nil || r.PathValue("version") != a.version {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	f.serve(w, r)
}

func (f *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.etag)
	h.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data := f.data
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		f.once.Do(f.compress)
		h.Set("Content-Encoding", "gzip")
		data = f.zip
	}
	_, _ = w.Write(data)
}

func (f *asset) compress() {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(f.data)
	_ = z.Close() // to memory
	f.zip = b.Bytes()
}
