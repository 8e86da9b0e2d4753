// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is Debian's Chromium, driven by the DevTools protocol over a pipe.
type browser struct {
	t       *testing.T
	in      io.Writer
	next    int
	session string
	// answers come by number of the call; reports are what the page complained of.
	mu      sync.Mutex
	answers map[int]chan answer
	reports []string
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// patience is how long the browser may take for one step.
const patience = 60 * time.Second

// open starts a browser, without a network, with a page in it.
func open(t *testing.T, page []byte, width, height int) *browser {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("chromium is missing; scripts/setup installs it: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	ours, theirs := pipe(t), pipe(t)
	// The sandbox needs what containers and root do not have; the page is ours.
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", //nolint:gosec // a fixed command
		"--user-data-dir="+filepath.Join(dir, "profile"), "--no-first-run", "--disable-ipc-flooding-protection", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
		fmt.Sprintf("--window-size=%d,%d", width, height), "about:blank")
	cmd.ExtraFiles = []*os.File{ours[0], theirs[1]}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: ours[1], answers: map[int]chan answer{}}
	_ = ours[0].Close()
	_ = theirs[1].Close()
	read := make(chan struct{})
	go func() { defer close(read); b.read(theirs[0]) }()
	t.Cleanup(func() {
		_, _ = io.WriteString(b.in, "{\"id\":999999,\"method\":\"Browser.close\"}\x00")
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		_ = theirs[0].Close()
		<-read
		_ = ours[1].Close()
	})
	b.attach("file://" + file)
	return b
}

func pipe(t *testing.T) [2]*os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return [2]*os.File{r, w}
}

// attach opens a tab and loads the page in it.
func (b *browser) attach(url string) {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	b.wait("document.readyState === 'complete' && location.protocol === 'file:' && document.getElementById('footer').textContent !== ''")
}

// read takes messages of the browser in until it has gone.
func (b *browser) read(r io.Reader) {
	buf := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := buf.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			answer
			ID     int
			Method string
			Params json.RawMessage
		}
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.answers[m.ID]; c != nil {
			c <- m.answer
			delete(b.answers, m.ID)
		}
		switch m.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled":
			b.reports = append(b.reports, m.Method+" "+string(m.Params))
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if json.Unmarshal(m.Params, &p) == nil && !strings.HasPrefix(p.Request.URL, "file:") {
				b.reports = append(b.reports, "request to "+p.Request.URL)
			}
		}
		b.mu.Unlock()
	}
}

// call asks the browser to do something.
func (b *browser) call(method string, params any, result any) {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	c := make(chan answer, 1)
	b.mu.Lock()
	b.next++
	id := b.next
	b.answers[id] = c
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method, "params": params}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	j, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(j, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case a := <-c:
		if err = nil; a.Error != nil {
			err = errors.New(a.Error.Message)
		} else if result != nil {
			err = json.Unmarshal(a.Result, result)
		}
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	case <-time.After(patience):
		b.quiet()
		b.t.Fatalf("%s: no answer", method)
	}
}

// eval evaluates an expression in the page. Strings come back as they are, other
// values as JSON.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	var s string
	if json.Unmarshal(r.Result.Value, &s) == nil {
		return s
	}
	return string(r.Result.Value)
}

// wait waits until an expression is true.
func (b *browser) wait(condition string) {
	b.t.Helper()
	script := fmt.Sprintf(`new Promise((yes, no) => { const end = Date.now() + %d; const look = () => (%s) ? yes(true) : Date.now() > end ? yes(false) : setTimeout(look, 10); look(); })`,
		patience.Milliseconds()/2, condition)
	if b.eval(script) != "true" {
		b.quiet()
		b.t.Fatalf("never came true: %s", condition)
	}
}

// click clicks with the mouse on the middle of an element.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("document.querySelector(%q)", selector))
	var at struct{ X, Y float64 }
	if err := json.Unmarshal([]byte(b.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.scrollIntoView({block: 'center', inline: 'center'});
		const r = e.getClientRects()[0]; return {X: r.x + r.width / 2, Y: r.y + r.height / 2}; })()`, selector))), &at); err != nil {
		b.t.Fatal(err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// write types into an element.
func (b *browser) write(selector, text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("document.querySelector(%q).focus()", selector))
	b.call("Input.insertText", map[string]any{"text": text}, nil)
}

// key presses a key.
func (b *browser) key(name string, code int) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code}, nil)
	}
}

// quiet fails the test if the page complained, or asked for anything.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.reports {
		b.t.Errorf("the page: %s", r)
	}
	b.reports = nil
}

// shoot keeps a picture of the page in the folder that REPORT_SCREENSHOTS names.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("REPORT_SCREENSHOTS")
	if dir == "" {
		return
	}
	var r struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
