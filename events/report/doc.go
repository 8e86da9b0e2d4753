// SPDX-License-Identifier: Apache-2.0

// Package report writes traversals as a page for a ticket: one HTML file that
// needs neither a network nor a server.
//
// Traversals that took the same way and ended the same way are one path. The
// page lists the paths, draws each, and goes down to single packets and the
// hooks they met as far as the file's size allows; what was left out is said on
// the page.
//
// The file has three parts: the style and the script of page/, fixed, and named
// by their hashes in the page's content security policy; and data as JSON, which
// no browser runs. All text in it that came from outside went through
// events.SafeSentence, and the script puts text into the page as text only:
// the policy forbids it anything else.
package report
