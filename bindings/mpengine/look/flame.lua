--- A profile as a flame graph: one SVG file, which loads nothing. A click on a frame shows it over
--- the whole width, a click on the ground all of them; the field on top searches, by a part of the
--- text. Without scripts the picture is the same, and each frame has its text as a tooltip.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local WIDTH <const>, ROW <const>, TOP <const>, LETTER <const> = 1200, 18, 64, 7
local THINNEST <const> = 0.1 -- pixels: what is thinner is left out

local HEAD <const> = [=[
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="%d" height="%d" viewBox="0 0 %d %d">
<style>
text { font: 12px monospace; fill: #222; pointer-events: none }
.title { font: bold 16px sans-serif }
.f { cursor: pointer } .f:hover rect { stroke: #222 }
.button { pointer-events: all; cursor: pointer; text-decoration: underline }
.found rect { fill: #c050d0 } .past rect { opacity: 0.5 } .hidden { display: none }
</style>
<rect id="ground" width="100%%" height="100%%" fill="#f8f8f8"/>
<text class="title" x="10" y="24">%s</text>
<text id="all" class="button" x="10" y="46">show all</text>
<text id="search" class="button" x="90" y="46">search (Ctrl-F)</text>
<text id="matched" x="220" y="46"></text>
<g id="frames">
]=]

local TAIL <const> = [=[
</g>
<script><![CDATA[
(function () {
  "use strict";
  var W = 1200, LETTER = 7, frames = [], view = { from: 0, to: W }, words = "";
  document.querySelectorAll(".f").forEach(function (g) {
    var rect = g.querySelector("rect"), text = g.querySelector("text");
    frames.push({ g: g, rect: rect, label: text, text: g.getAttribute("data-text"),
      x: +rect.getAttribute("x"), w: +rect.getAttribute("width"), y: +rect.getAttribute("y") });
  });
  function fit(text, width) {
    var n = Math.floor((width - 6) / LETTER);
    return n < 3 ? "" : text.length <= n ? text : text.slice(0, n - 2) + "..";
  }
  function draw(chosen) {
    var scale = W / (view.to - view.from);
    frames.forEach(function (f) {
      var from = Math.max(f.x, view.from), to = Math.min(f.x + f.w, view.to);
      var visible = to - from > 1e-6;
      f.g.classList.toggle("hidden", !visible);
      f.g.classList.toggle("past", visible && !!chosen && f.y < chosen.y);
      if (!visible) return;
      var x = (from - view.from) * scale, w = (to - from) * scale;
      f.rect.setAttribute("x", x);
      f.rect.setAttribute("width", w);
      f.label.setAttribute("x", x + 3);
      f.label.textContent = fit(f.text, w);
    });
  }
  function zoom(f) {
    view = f ? { from: f.x, to: f.x + f.w } : { from: 0, to: W };
    draw(f);
  }
  function search(what) {
    words = what || "";
    var found = [], low = words.toLowerCase();
    frames.forEach(function (f) {
      var hit = low !== "" && f.text.toLowerCase().indexOf(low) >= 0;
      f.g.classList.toggle("found", hit);
      if (hit) found.push(f);
    });
    var until = -1, sum = 0; /* frames within frames that were found count once */
    found.sort(function (a, b) { return a.x - b.x || b.w - a.w; }).forEach(function (f) {
      if (f.x < until - 1e-6) return;
      sum += f.w;
      until = f.x + f.w;
    });
    document.getElementById("matched").textContent = low === "" ? ""
      : "matched " + (100 * sum / W).toFixed(1) + "% (" + words + ")";
    return found.length;
  }
  function ask() {
    var what = window.prompt("search for a part of a frame's text", words);
    if (what !== null) search(what);
  }
  frames.forEach(function (f) { f.g.addEventListener("click", function () { zoom(f); }); });
  document.getElementById("all").addEventListener("click", function () { zoom(null); });
  document.getElementById("ground").addEventListener("click", function () { zoom(null); });
  document.getElementById("search").addEventListener("click", ask);
  window.addEventListener("keydown", function (event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f") { event.preventDefault(); ask(); }
    else if (event.key === "Escape") { search(""); zoom(null); }
  });
  window.flame = { search: search, zoom: function (i) { zoom(frames[i]); }, frames: frames };
  if (window.location.hash.length > 1) search(decodeURIComponent(window.location.hash.slice(1)));
}());
]]></script>
</svg>
]=]

local ENTITIES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function xml(text)
    text = utf8.len(text) and text or core.escaped(text)
    return (text:gsub('[&<>"]', ENTITIES):gsub("%c", "?"))
end

--- The tree of all stacks: nodes of { name, count, children (list), by_name }.
local function tree_of(counts)
    local root = { name = "all", count = 0, children = {}, by_name = {}, depth = 0 }
    local deepest = 0
    for stack, n in pairs(counts) do
        local node = root
        root.count = root.count + n
        for frame in stack:gmatch("[^;]+") do
            local child = node.by_name[frame]
            if not child then
                child = { name = frame, count = 0, children = {}, by_name = {}, depth = node.depth + 1 }
                node.by_name[frame] = child
                node.children[#node.children + 1] = child
                deepest = math.max(deepest, child.depth)
            end
            child.count = child.count + n
            node = child
        end
    end
    return root, deepest
end

--- The same name has the same colour: waits are blue, C is grey, Lua is warm.
local function colour_of(name)
    if name:sub(1, 1) == "(" then return name == "(waiting)" and "#9cc3e0" or "#c4c4c4" end
    local hash = 0
    for i = 1, #name do hash = (hash * 31 + name:byte(i)) & 0xffffff end
    return ("rgb(%d,%d,%d)"):format(225 + hash % 30, 130 + (hash >> 5) % 90, 70 + (hash >> 11) % 40)
end

local function fit(name, width)
    local n = (width - 6) // LETTER | 0
    if n < 3 then return "" end
    return #name <= n and name or name:sub(1, n - 2):gsub("[\128-\255]+$", "") .. ".."
end

--- Iterates, since stacks may be deep.
local function add_frames(out, root, height)
    local todo = { { node = root, x = 0 } }
    while #todo > 0 do
        local item = table.remove(todo)
        local node, width = item.node, item.node.count / root.count * WIDTH
        local y = height - (node.depth + 1) * ROW
        if width >= THINNEST then
            local text = xml(node.name)
            out[#out + 1] = ('<g class="f" data-text="%s"><title>%s: %d samples, %.1f %%</title><rect x="%.3f" y="%d" '
                .. 'width="%.3f" height="%d" rx="1" fill="%s"/><text x="%.3f" y="%d">%s</text></g>\n'):format(text,
                text, node.count, node.count / root.count * 100, item.x, y, width, ROW - 1, colour_of(node.name),
                item.x + 3, y + 13, xml(fit(node.name, width)))
            table.sort(node.children, function(a, b) return a.name < b.name end)
            local x = item.x
            for _, child in ipairs(node.children) do
                todo[#todo + 1] = { node = child, x = x }
                x = x + child.count / root.count * WIDTH
            end
        end
    end
end

--- The SVG of what profile.of has found.
return function(found)
    local root, deepest = tree_of(found.counts)
    local height = TOP + (deepest + 1) * ROW + 10
    local title = ("%s: %d samples in %.1f s"):format(found.script, found.samples, found.seconds)
    local out = { HEAD:format(WIDTH, height, WIDTH, height, xml(title)) }
    add_frames(out, root, height - 10)
    out[#out + 1] = TAIL
    return table.concat(out)
end
