-- Renders the manual to HTML: one page for each chapter, an index of all functions, and a search.
--
--   lua5.4 tools/book.lua DIR      from the root; needs pandoc
--
-- The chapters and their order are those of docs/README.md. The index is made from the annotations in
-- bindings/library. Files that a page links to are copied beside it, so DIR is whole and needs no network.
-- Each link is checked at the end: one that leads nowhere is printed, and the status is 1.

local book = {}

local SCRIPTS = "scripts" -- a directory that is linked to
local ANNOTATIONS = "bindings/library/mpengine.lua"

local function read(path)
  local f <close> = assert(io.open(path))
  return f:read "a"
end

local function write(path, text)
  local f <close> = assert(io.open(path, "w"))
  assert(f:write(text))
end

local function run(command)
  if not os.execute(command) then error("book: failed: " .. command, 0) end
end

local function is_file(path)
  local f = io.open(path)
  if not f then return false end
  local readable = f:read(0) ~= nil
  f:close()
  return readable
end

-- ---- the index of functions ----------------------------------------------------------------------

local annotations = dofile "bindings/mpengine/repl/annotations.lua"

--- All annotated functions, in their order.
---@return mpengine.annotations.Function[]
function book.functions() return (annotations.parse(io.lines(ANNOTATIONS))) end

local function id_of(f) return f.class .. "." .. f.name end

-- "`name: type`, what is said", of "name type what is said".
local function named_type(text)
  local name, rest = text:match "^(%S+)%s*(.*)$"
  local kind, words = annotations.split_type(rest)
  return ("`%s: %s`%s"):format(name, kind:gsub("`", ""), words ~= "" and ", " .. words or "")
end

local function result_of(text)
  local kind, words = annotations.split_type(text)
  return ("returns `%s`%s"):format(kind:gsub("`", ""), words ~= "" and ", " .. words or "")
end

local function add_function(page, f)
  local function add(...) table.insert(page, (...)) end
  add(('<a id="%s"></a>\n\n### %s\n'):format(id_of(f), f.signature:gsub("_", "\\_")))
  if f.text[1] then add(table.concat(f.text, "\n") .. "\n") end
  for _, param in ipairs(f.params) do add("- " .. named_type(param)) end
  for _, result in ipairs(f.returns) do add("- " .. result_of(result)) end
  if f.waits then add "- may wait, and suspends only the calling task" end
  add ""
end

-- What the annotations say of a class itself.
local function add_class(page, class)
  if class.text[1] then table.insert(page, table.concat(class.text, "\n") .. "\n") end
  for _, field in ipairs(class.fields) do
    if not field:find "^%S+ fun%(self" then table.insert(page, "- " .. named_type(field)) end
  end
  table.insert(page, "")
end

--- The page of the index, in Markdown.
function book.index()
  local functions, classes = annotations.parse(io.lines(ANNOTATIONS))
  local page = { "# All functions\n",
    "Made from the annotations of the language server. `?` marks what may be absent, or nil.\n" }
  local names = {}
  for i, f in ipairs(functions) do names[i] = f end
  table.sort(names, function(a, b) return a.name:lower() .. " " .. a.class < b.name:lower() .. " " .. b.class end)
  local letter
  for _, f in ipairs(names) do
    local first = f.name:sub(1, 1):upper()
    table.insert(page, ("%s[%s](#%s) <small>%s</small>"):format(first ~= letter and "\n**" .. first .. "** " or "· ",
      f.name:gsub("_", "\\_"), id_of(f), f.class))
    letter = first
  end
  local class
  for _, f in ipairs(functions) do
    if f.class ~= class then
      class = f.class
      table.insert(page, ("\n## %s\n"):format(class))
      add_class(page, classes[class])
    end
    add_function(page, f)
  end
  return table.concat(page, "\n")
end

-- ---- chapters ------------------------------------------------------------------------------------

local HTML_OF = {
  ["docs/README.md"] = "index.html", ["README.md"] = "readme.html", ["bench/README.md"] = "bench.html",
  ["CHANGELOG.md"] = "changelog.html", ["CONTRIBUTING.md"] = "contributing.html",
}

local function html_of(path) return HTML_OF[path] or path:match "([^/]+)%.md$" .. ".html" end

-- The path from the root of what a page links to.
local function resolved(page, target)
  local path = (page:match "^(.*/)" or "") .. target
  local count
  repeat path, count = path:gsub("[^/]+/%.%./", "", 1) until count == 0
  return path
end

--- The chapters: a list of { path, html, title, part }, in the order of the table of contents.
function book.chapters()
  local chapters, part, known = {}, nil, {}
  local function add(path)
    if known[path] then return end
    known[path] = true
    local title = read(path):match("#%s+([^\n]+)"):gsub("`", "")
    table.insert(chapters, { path = path, html = html_of(path), title = title, part = part })
  end
  add "docs/README.md"
  for line in io.lines "docs/README.md" do
    part = line:match "^## (.*)$" or part
    local target = line:match "^%- %[[^]]*%]%(([^)]*%.md)%)"
    if target then add(resolved("docs/README.md", target)) end
    if part == "To look up" and not known.index then
      known.index = true
      table.insert(chapters, { html = "functions.html", title = "All functions", part = part, text = book.index() })
    end
  end
  return chapters
end

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escaped(text) return (text:gsub("[&<>\"]", ENTITIES)) end

-- The first sentence of the comment that a script begins with.
local function first_sentence(path)
  local words = {}
  for line in io.lines(path) do
    local text = line:match "^%-%- (.*)$"
    if not text then break end
    table.insert(words, text)
  end
  return table.concat(words, " "):match "^(.-%.)%s" or table.concat(words, " ")
end

-- A page that lists the files of a directory.
local function copy_directory(path, dir)
  local pipe <close> = assert(io.popen("ls " .. path))
  local lines = {}
  for name in pipe:lines() do
    run(("install -D -m 644 %s/%s %s/files/%s/%s.txt"):format(path, name, dir, path, name))
    table.insert(lines, ("<li><a href=\"%s.txt\">%s</a>: %s</li>"):format(name, name,
      escaped(first_sentence(path .. "/" .. name))))
  end
  write(("%s/files/%s/index.html"):format(dir, path), ([[<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s · mpengine</title><link rel="stylesheet" href="../../style.css">
<header><a href="../../index.html">mpengine</a></header><main style="margin-left: 0"><h1>%s</h1><ul>
%s
</ul></main></html>
]]):format(path, path, table.concat(lines, "\n")))
end

-- The text of a chapter with links that work in DIR: to other chapters, by their titles, and to copies of files.
local function relinked(chapter, chapters, dir)
  local html, titles = {}, {}
  for _, c in ipairs(chapters) do html[c.path or ""], titles[c.path or ""] = c.html, c.title end
  local function target_of(text, target)
    local path, anchor = target:match "^([^#]*)(#?.*)$"
    if path == "" or path:find "^%a+:" then return nil end
    path = resolved(chapter.path, path)
    if text == target:match "[^/]*%.md$" then text = titles[path] or text end
    if html[path] then return ("[%s](%s%s)"):format(text, html[path], anchor) end
    if path == SCRIPTS then
      copy_directory(path, dir)
      return ("[%s](files/%s/index.html)"):format(text, path)
    elseif not is_file(path) then
      return text
    end
    run(("install -D -m 644 %s %s/files/%s.txt"):format(path, dir, path))
    return ("[%s](files/%s.txt)"):format(text, path)
  end
  return (read(chapter.path):gsub("%[([^][]*)%]%(([^)%s]+)%)", target_of))
end

local function navigation(chapters, current)
  local nav, part = {}, nil
  for _, c in ipairs(chapters) do
    if c.part ~= part then
      part = c.part
      table.insert(nav, "<h2>" .. escaped(part) .. "</h2>")
    end
    table.insert(nav, ('<a href="%s"%s>%s</a>'):format(c.html, c == current and ' class="current"' or "",
      escaped(c.title)))
  end
  return table.concat(nav, "\n")
end

local function neighbour(chapter, label)
  if not chapter then return "" end
  return ('<a href="%s">%s</a>'):format(chapter.html, label:format(escaped(chapter.title)))
end

local function render(chapters, i, dir)
  local chapter = chapters[i]
  local base = dir .. "/" .. chapter.html
  write(base .. ".md", chapter.text or relinked(chapter, chapters, dir))
  write(base .. ".nav", navigation(chapters, chapter))
  write(base .. ".next", neighbour(chapters[i - 1], "← %s") .. neighbour(chapters[i + 1], "%s →"))
  local title = chapter.title:gsub("[\"$]", "")
  run(("pandoc -f gfm -t html5 --template tools/book/page.html --metadata pagetitle=\"%s\""
    .. " -V nav=\"$(cat %s.nav)\" -V next=\"$(cat %s.next)\" -o %s %s.md"):format(title, base, base, base, base))
  for _, suffix in ipairs { "md", "nav", "next" } do os.remove(base .. "." .. suffix) end
end

-- ---- search and links ----------------------------------------------------------------------------

local function plain(html)
  local text = html:gsub("<[^>]*>", " "):gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&quot;", '"'):gsub("&amp;", "&")
  return (text:gsub("%s+", " "))
end

local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0"):gsub("%c", " "):gsub("</", "<\\/") .. '"' end

-- The sections of all pages, as a script that search.js reads.
local function search_data(chapters, dir)
  local lines = {}
  for _, c in ipairs(chapters) do
    local main = read(dir .. "/" .. c.html):match "<main>(.*)</main>"
    for id, title, body in (main:gsub("<h[123] id", "\0%0") .. "\0"):gmatch
      '%z<h[123] id="([^"]*)">(.-)</h[123]>([^%z]*)' do
      table.insert(lines, ("[%s,%s,%s,%s]"):format(quoted(c.html .. "#" .. id), quoted(plain(title)),
        quoted(c.title), quoted(plain(body))))
    end
  end
  write(dir .. "/search-data.js", "const SECTIONS = [\n" .. table.concat(lines, ",\n") .. "\n];\n")
end

-- The number of links of the pages that lead nowhere.
local function check_links(chapters, dir)
  local ids, wrong = {}, 0
  for _, c in ipairs(chapters) do
    ids[c.html] = {}
    for id in read(dir .. "/" .. c.html):gmatch ' id="([^"]*)"' do ids[c.html][id] = true end
  end
  for _, c in ipairs(chapters) do
    for link in read(dir .. "/" .. c.html):gmatch ' href="([^"]*)"' do
      local page, anchor = link:match "^([^#]*)#?(.*)$"
      page = page == "" and c.html or page
      local there = page:find "^%a+:" or is_file(dir .. "/" .. page)
      if not there or (ids[page] and anchor ~= "" and not ids[page][anchor]) then
        io.stderr:write(("book: %s: the link to %s leads nowhere\n"):format(c.path or c.html, link))
        wrong = wrong + 1
      end
    end
  end
  return wrong
end

--- Writes the whole book. Returns the number of pages, and of links that lead nowhere.
function book.build(dir)
  run(("rm -rf %s && mkdir -p %s"):format(dir, dir))
  run(("cp tools/book/style.css tools/book/search.js %s"):format(dir))
  local chapters = book.chapters()
  for i in ipairs(chapters) do render(chapters, i, dir) end
  search_data(chapters, dir)
  return #chapters, check_links(chapters, dir)
end

if not (arg and arg[0] and arg[0]:find "book%.lua$") then return book end

local pages, wrong = book.build(arg[1] or "build/docs")
print(("book: %d pages in %s"):format(pages, arg[1] or "build/docs"))
os.exit(wrong == 0, true)
