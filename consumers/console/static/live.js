// Keeps a page up to date: what the server sends replaces the elements of the same ids.
"use strict";

const address = document.body.dataset.live;
const liveness = document.getElementById("liveness");

function say(state, words) {
  liveness.hidden = false;
  liveness.className = "liveness " + state;
  liveness.textContent = words;
}

// What somebody has unfolded, typed or focused must outlive the change around it.
function kept(element) {
  const opened = new Set();
  for (const each of element.querySelectorAll("details[data-keep][open]")) {
    opened.add(each.dataset.keep);
  }
  return opened;
}

function busy(element) {
  const focus = document.activeElement;
  return element.contains(focus) && focus.matches("input, select, textarea, summary, button, a");
}

function replace(element, html) {
  const opened = kept(element);
  const places = [...element.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  element.innerHTML = html;
  for (const each of element.querySelectorAll("details[data-keep]")) {
    each.open = opened.has(each.dataset.keep);
  }
  element.querySelectorAll(".scroll").forEach((each, at) => {
    each.scrollLeft = places[at] || 0;
  });
}

const waiting = new Map();

function apply(id, html) {
  const element = document.getElementById(id);
  if (!element) return;
  if (busy(element) || String(window.getSelection()) !== "") {
    waiting.set(id, html);
  } else {
    waiting.delete(id);
    replace(element, html);
  }
}

function listen() {
  const stream = new EventSource(address);
  stream.onopen = () => say("on", "live");
  stream.onmessage = (message) => {
    say("on", "live");
    for (const [id, html] of Object.entries(JSON.parse(message.data))) apply(id, html);
  };
  stream.addEventListener("over", () => {
    stream.close();
    say("off", "logged out");
  });
  stream.onerror = () => {
    say("off", "not live, trying again");
    // After an error of HTTP a browser does not try again by itself.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
  window.addEventListener("pagehide", () => stream.close());
}

if (address && liveness) {
  setInterval(() => waiting.forEach((html, id) => apply(id, html)), 1000);
  listen();
}
