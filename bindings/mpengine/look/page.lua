--- A trace as one HTML page, which loads nothing: the time line of all tasks, with zoom and search.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local HEAD <const> = [=[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>mpengine trace</title>
<style>
html, body { margin: 0; height: 100%; overflow: hidden; font: 13px sans-serif; color: #222 }
#bar { height: 34px; line-height: 34px; padding: 0 10px; background: #eee; white-space: nowrap }
#bar input[type=search] { width: 220px } #bar button { margin: 0 2px }
#view { position: absolute; top: 34px; left: 0; right: 0; bottom: 84px }
canvas { display: block; cursor: grab }
#details { position: absolute; bottom: 0; left: 0; right: 0; height: 76px; padding: 4px 10px; background: #eee;
  overflow: auto; white-space: pre-wrap; font: 12px monospace }
</style>
</head>
<body>
<div id="bar"><b id="title"></b>
<input id="search" type="search" placeholder="search: a part of a name"> <button id="next">next</button>
<span id="matched"></span>
<button id="in">+</button><button id="out">-</button><button id="all">all</button>
<label><input id="flows" type="checkbox" checked> arrows</label>
<span id="missing"></span></div>
<div id="view"><canvas id="canvas"></canvas></div>
<div id="details">wheel: zoom, drag: move, click: details, double click: zoom to it; keys w s a d, / to search</div>
<script type="application/json" id="data">
]=]

local TAIL <const> = [=[
</script>
<script>
(function () {
"use strict";
var data = JSON.parse(document.getElementById("data").textContent);
var ROW = 18, HEADER = 20, LABEL = 230;
var canvas = document.getElementById("canvas"), ctx = canvas.getContext("2d");
var rows = [], byKey = {}, processes = {}, flows = [], open = {}, starts = {}, first = Infinity, last = 0;
function el(id) { return document.getElementById(id); }
function row(pid, key, name) {
  var id = pid + "/" + key;
  if (!byKey[id]) {
    byKey[id] = { pid: pid, key: key, name: name || "task #" + key, slices: [], depth: 1, longest: 0 };
    rows.push(byKey[id]);
  }
  if (name) byKey[id].name = name;
  return byKey[id];
}
function put(r, s) {
  s.row = r;
  r.slices.push(s);
  first = Math.min(first, s.ts);
  last = Math.max(last, s.ts + s.dur);
}
data.traceEvents.forEach(function (e) {
  var key, r;
  if (e.ph === "M") {
    if (e.name === "process_name") processes[e.pid] = e.args.name;
    else row(e.pid, e.tid, e.args.name);
  } else if (e.ph === "X") {
    put(row(e.pid, e.tid), { name: e.name, cat: e.cat, ts: e.ts, dur: e.dur, args: e.args });
  } else if (e.ph === "i") {
    put(row(e.pid, e.tid), { name: e.name, cat: "instant", ts: e.ts, dur: 0 });
  } else if (e.ph === "b") {
    open[e.id + "/" + e.pid] = e;
  } else if (e.ph === "e") {
    key = open[e.id + "/" + e.pid];
    if (key) {
      r = row(e.pid, "lock " + e.id, "holds " + e.name);
      put(r, { name: e.name, cat: "lock", ts: key.ts, dur: e.ts - key.ts, args: { task: key.tid } });
    }
  } else if (e.ph === "s") {
    starts[e.cat + e.id] = e;
  } else if (e.ph === "f" && starts[e.cat + e.id]) {
    flows.push({ from: starts[e.cat + e.id], to: e, cat: e.cat });
  }
});
if (first > last) { first = 0; last = 1; }
rows.sort(function (a, b) {
  if (a.pid !== b.pid) return a.pid - b.pid;
  if (typeof a.key === typeof b.key) return a.key < b.key ? -1 : 1;
  return typeof a.key === "number" ? -1 : 1;
});
var y = 0, pid = null;
rows.forEach(function (r) {
  var stack = [];
  r.slices.sort(function (a, b) { return a.ts - b.ts || b.dur - a.dur; });
  r.slices.forEach(function (s) {
    while (stack.length && stack[stack.length - 1].ts + stack[stack.length - 1].dur <= s.ts) stack.pop();
    s.depth = stack.length;
    if (s.dur > 0) stack.push(s);
    r.depth = Math.max(r.depth, s.depth + 1);
    r.longest = Math.max(r.longest, s.dur);
  });
  if (r.pid !== pid) { y += HEADER; r.heads = true; pid = r.pid; }
  r.y = y;
  y += r.depth * ROW + 3;
});
var height = y, span = Math.max(last - first, 1), view = { from: first - span * 0.02, to: last + span * 0.02, top: 0 };
var words = "", found = [], at = -1, chosen = null;
var colours = { wait: "#c9d8e6", lock: "#e2a4a4", queue: "#7cb47c", pipe: "#7cb47c", pool: "#c7b3dd", instant: "#555",
  semaphore: "#6fa8c9", boundedsemaphore: "#6fa8c9", event: "#6fa8c9", barrier: "#6fa8c9", condition: "#6fa8c9",
  dict: "#b9a36a", list: "#b9a36a", offload: "#c7b3dd" };
var arrows = { item: "rgba(40,120,40,0.55)", room: "rgba(40,120,40,0.55)", wake: "rgba(30,90,160,0.55)" };
function colour(s) {
  if (colours[s.cat]) return colours[s.cat];
  var h = 0, i;
  for (i = 0; i < s.name.length; i++) h = (h * 31 + s.name.charCodeAt(i)) & 0xffff;
  return "hsl(" + (25 + h % 40) + ",75%," + (58 + h % 12) + "%)";
}
function x(t) { return LABEL + (t - view.from) / (view.to - view.from) * (canvas.width - LABEL); }
function firstAfter(list, t) {
  var low = 0, high = list.length, mid;
  while (low < high) { mid = (low + high) >> 1; if (list[mid].ts < t) low = mid + 1; else high = mid; }
  return low;
}
function time(t) {
  return t >= 1e6 ? (t / 1e6).toFixed(3) + " s" : t >= 1e3 ? (t / 1e3).toFixed(3) + " ms" : t.toFixed(3) + " us";
}
function drawSlices(r, top) {
  var from = firstAfter(r.slices, view.from - r.longest), ends = [], i, s, a, b;
  for (i = from; i < r.slices.length && r.slices[i].ts <= view.to; i++) {
    s = r.slices[i];
    a = Math.max(x(s.ts), LABEL);
    b = Math.max(x(s.ts + s.dur), a + 1);
    if (b < LABEL || (ends[s.depth] >= b && s !== chosen && !s.found)) continue;
    ends[s.depth] = b;
    ctx.fillStyle = s === chosen ? "#ffd400" : s.found ? "#d040e0" : colour(s);
    ctx.fillRect(a, top + s.depth * ROW, b - a, ROW - 2);
    if (b - a > 30) {
      ctx.save();
      ctx.beginPath();
      ctx.rect(a, top + s.depth * ROW, b - a - 2, ROW);
      ctx.clip();
      ctx.fillStyle = "#222";
      ctx.fillText(s.name, a + 3, top + s.depth * ROW + 12);
      ctx.restore();
    }
  }
}
function drawAxis() {
  var step = Math.pow(10, Math.floor(Math.log10((view.to - view.from) / 4))), t;
  if ((view.to - view.from) / step > 12) step *= 2.5;
  ctx.fillStyle = "#fff";
  ctx.fillRect(0, 0, canvas.width, HEADER);
  for (t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    ctx.fillStyle = "#bbb";
    ctx.fillRect(x(t), 0, 1, 6);
    ctx.fillStyle = "#444";
    ctx.fillText(time(t), x(t) + 3, 14);
  }
}
function middle(e) {
  var r = byKey[e.pid + "/" + e.tid];
  return r ? r.y - view.top + HEADER + ROW / 2 : 0;
}
function drawFlows() {
  var drawn = 0;
  flows.forEach(function (f) {
    if (f.to.ts < view.from || f.from.ts > view.to || drawn > 2000) return;
    var ax = Math.max(x(f.from.ts), LABEL), ay = middle(f.from), bx = Math.max(x(f.to.ts), LABEL), by = middle(f.to);
    drawn++;
    ctx.strokeStyle = arrows[f.from.name] || "rgba(90,60,150,0.55)";
    ctx.beginPath();
    ctx.moveTo(ax, ay);
    ctx.lineTo(bx, by);
    ctx.stroke();
    ctx.fillStyle = ctx.strokeStyle;
    ctx.fillRect(bx - 2, by - 2, 4, 4);
  });
}
function draw() {
  var box = el("view");
  canvas.width = box.clientWidth;
  canvas.height = box.clientHeight;
  view.top = Math.max(0, Math.min(view.top, height - canvas.height + HEADER + 10));
  ctx.font = "12px sans-serif";
  rows.forEach(function (r) {
    var top = r.y - view.top + HEADER;
    if (top > canvas.height || top + r.depth * ROW + HEADER < 0) return;
    if (r.heads) {
      ctx.fillStyle = "#dde";
      ctx.fillRect(0, top - HEADER + 2, canvas.width, HEADER - 4);
      ctx.fillStyle = "#222";
      ctx.fillText((processes[r.pid] || "process") + " (pid " + r.pid + ")", 6, top - 6);
    }
    drawSlices(r, top);
    ctx.fillStyle = "#fafafa";
    ctx.fillRect(0, top, LABEL - 2, r.depth * ROW);
    ctx.fillStyle = "#444";
    ctx.fillText(r.name.slice(0, 36), 12, top + 12);
  });
  if (el("flows").checked) drawFlows();
  drawAxis();
}
function zoom(factor, around) {
  var width = (view.to - view.from) * factor;
  if (width < 0.01 || width > span * 4) return;
  view.from = around - (around - view.from) * factor;
  view.to = view.from + width;
  draw();
}
function centre() { return (view.from + view.to) / 2; }
function move(part) {
  var by = (view.to - view.from) * part;
  view.from += by;
  view.to += by;
  draw();
}
function all() { view.from = first - span * 0.02; view.to = last + span * 0.02; draw(); }
function show(s, close) {
  var half = Math.max(s.dur * (close ? 0.6 : 4), close ? 1 : 20), mid = s.ts + s.dur / 2;
  view.from = mid - half;
  view.to = mid + half;
  if (s.row.y < view.top || s.row.y > view.top + canvas.height - 60) view.top = s.row.y - 60;
}
function tell(s) {
  el("details").textContent = !s ? "" : s.name + "\n" + s.row.name + " of " + (processes[s.row.pid] || "process") +
    " (pid " + s.row.pid + ")\nat " + time(s.ts) + ", for " + time(s.dur) + (s.args ? "  " + JSON.stringify(s.args) :
    "");
}
function search(what) {
  words = (what || "").toLowerCase();
  found = [];
  at = -1;
  rows.forEach(function (r) {
    r.slices.forEach(function (s) {
      s.found = words !== "" && (s.name + "\n" + r.name).toLowerCase().indexOf(words) >= 0;
      if (s.found) found.push(s);
    });
  });
  found.sort(function (a, b) { return a.ts - b.ts; });
  el("matched").textContent = words === "" ? "" : found.length + " found";
  draw();
  return found.length;
}
function next() {
  if (!found.length) return;
  at = (at + 1) % found.length;
  chosen = found[at];
  show(chosen);
  tell(chosen);
  draw();
}
function hit(px, py) {
  var t = view.from + (px - LABEL) / (canvas.width - LABEL) * (view.to - view.from), best = null;
  var slack = (view.to - view.from) / canvas.width * 2;
  rows.forEach(function (r) {
    var top = r.y - view.top + HEADER, i, s;
    if (py < top || py >= top + r.depth * ROW) return;
    for (i = firstAfter(r.slices, t - r.longest - slack); i < r.slices.length && r.slices[i].ts <= t + slack; i++) {
      s = r.slices[i];
      if (s.depth === Math.floor((py - top) / ROW) && s.ts + s.dur + slack >= t) best = s;
    }
  });
  return best;
}
var drag = null;
canvas.addEventListener("wheel", function (e) {
  e.preventDefault();
  if (e.shiftKey) { view.top += e.deltaY; draw(); return; }
  zoom(e.deltaY > 0 ? 1.25 : 0.8, view.from + (e.offsetX - LABEL) / (canvas.width - LABEL) * (view.to - view.from));
}, { passive: false });
canvas.addEventListener("mousedown", function (e) { drag = { x: e.offsetX, y: e.offsetY, moved: false }; });
window.addEventListener("mouseup", function () { drag = null; });
canvas.addEventListener("mousemove", function (e) {
  if (!drag) return;
  if (Math.abs(e.offsetX - drag.x) + Math.abs(e.offsetY - drag.y) < 3 && !drag.moved) return;
  view.top -= e.offsetY - drag.y;
  move((drag.x - e.offsetX) / (canvas.width - LABEL));
  drag = { x: e.offsetX, y: e.offsetY, moved: true };
});
canvas.addEventListener("click", function (e) { chosen = hit(e.offsetX, e.offsetY); tell(chosen); draw(); });
canvas.addEventListener("dblclick", function (e) { var s = hit(e.offsetX, e.offsetY);
   if (s) { show(s, true); draw(); } });
el("search").addEventListener("input", function () { search(el("search").value); });
el("search").addEventListener("keydown", function (e) { if (e.key === "Enter") next(); });
el("next").addEventListener("click", next);
el("in").addEventListener("click", function () { zoom(0.5, centre()); });
el("out").addEventListener("click", function () { zoom(2, centre()); });
el("all").addEventListener("click", all);
el("flows").addEventListener("change", draw);
window.addEventListener("resize", draw);
window.addEventListener("keydown", function (e) {
  if (e.target === el("search")) return;
  if (e.key === "w") zoom(0.7, centre());
  else if (e.key === "s") zoom(1.4, centre());
  else if (e.key === "a") move(-0.2);
  else if (e.key === "d") move(0.2);
  else if (e.key === "/") { e.preventDefault(); el("search").focus(); }
});
el("title").textContent = data.otherData.program + " (pid " + data.otherData.pid + ")";
var missing = [];
if (data.otherData.dropped) missing.push(data.otherData.dropped + " events were dropped");
if (data.otherData.paused) missing.push("not traced for " + data.otherData.paused.toFixed(2) + " s");
el("missing").textContent = missing.join(", ");
draw();
window.timeline = { search: search, zoom: zoom, next: next, all: all, view: view, rows: rows, flows: flows };
if (location.hash.length > 1) {
  el("search").value = decodeURIComponent(location.hash.slice(1));
  search(el("search").value);
  next();
}
}());
</script>
</body>
</html>
]=]

--- The page of a trace, given as JSON text.
return function(json) return HEAD .. json:gsub("</", "<\\/") .. TAIL end
