-- Checks the words of docs, comments and names of tests.
--
--   lua5.4 tools/words.lua             from the root: every file
--   lua5.4 tools/words.lua PATH...     these files
--
-- An offence is a word of AVOIDED, or a line of prose in a page that is wider than WIDTH (tables, code and
-- links aside). Of CHANGELOG.md only what is not released yet is read. Prints each and ends with status 1
-- if there is one.

local ROOTS = "README.md CHANGELOG.md docs engine bindings spec scripts bench tools"
local WIDTH = 100

-- A process, a task or a caller is no person: name it. "Whose" is fine for a thing.
local AVOIDED = {}
for word in ([[
  who whom whoever whomever nobody somebody anybody everybody noone
  he him his himself she her herself
]]):gmatch "%S+" do AVOIDED[word] = true end

local function output_of(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read "a"
end

local function read(path)
  local f <close> = assert(io.open(path))
  return f:read "a"
end

-- ---- what is prose in a file ---------------------------------------------------------------------

-- The lines of a file with all else blanked, by the kind of the file.
local prose = {}

local function blank(text) return (text:gsub("[^\n]", " ")) end

function prose.md(text)
  return (text:gsub("```.-```", blank):gsub("`[^`\n]*`", blank))
end

-- Comments, and the names of tests, whose words are joined by underscores.
function prose.c(text)
  local kept, at = {}, 1
  while true do
    local first, last = text:find("/%*.-%*/", at)
    local code = text:sub(at, (first or 0) - 1)
    kept[#kept + 1] = code:gsub("[^\n]+", function(line)
      local name = line:match "^TEST[A-Z_]*%(([%w_]+)"
      return name and name:gsub("_", " ") or blank(line)
    end)
    if not first then return table.concat(kept) end
    kept[#kept + 1] = text:sub(first, last)
    at = last + 1
  end
end
prose.h = prose.c

-- Comments, and what `it` and `describe` say.
function prose.lua(text)
  return (text:gsub("[^\n]+", function(line)
    local comment = line:match "^%s*%-%-.*$" or line:match "[^\"'%-]*%-%-%s.*$"
    return comment or line:match "^%s*it%b()" or line:match "^%s*it%(.*$" or line:match "^%s*describe%(.*$" or ""
  end))
end

-- ---- hits ----------------------------------------------------------------------------------------

local function is_wide(line)
  local is_prose = line:find "%s%S" and not line:find "^|"
  return is_prose and (utf8.len(line) or 0) > WIDTH
end

-- The hits of a file: a list of { line, what }.
local function hits_of(path)
  local hits, number = {}, 0
  local kind = path:match "%.(%w+)$"
  local text = read(path)
  if path == "CHANGELOG.md" then text = text:match "^(.-\n)## %d" or text end
  if kind == "md" then
    local plain = text:gsub("```.-```", blank)
    for line in plain:gmatch "([^\n]*)\n" do
      number = number + 1
      if is_wide(line) then hits[#hits + 1] = { number, ("is wider than %d columns"):format(WIDTH) } end
    end
  end
  number = 0
  for line in (prose[kind](text) .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    for word in line:gmatch "%a+" do
      if AVOIDED[word:lower()] then hits[#hits + 1] = { number, word } end
    end
  end
  table.sort(hits, function(a, b) return a[1] < b[1] end)
  return hits
end

local function files()
  local list = {}
  for path in output_of(("find %s -name '*.md' -o -name '*.[ch]' -o -name '*.lua'"):format(ROOTS)):gmatch "[^\n]+" do
    if path ~= "tools/words.lua" then list[#list + 1] = path end
  end
  return list
end

-- ---- all files -----------------------------------------------------------------------------------

local paths = arg[1] and arg or files()
local count = 0
for _, path in ipairs(paths) do
  for _, hit in ipairs(hits_of(path)) do
    count = count + 1
    io.stderr:write(("%s:%d: %s\n"):format(path, hit[1], hit[2]))
  end
end
if count > 0 then
  io.stderr:write("words: name the process, task or caller; break lines of prose before column ", WIDTH + 1, "\n")
end
os.exit(count == 0, true)
