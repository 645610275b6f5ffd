-- Checks that calls go down only: no object file uses a symbol that a higher layer or room defines.
-- (tools/layers.lua checks what files include; a declaration can be written anywhere.)
--
--   BUILD=build lua5.4 tools/rooms.lua base os core ... : base codec task ...
--
--   The layers of engine/ and, after the colon, the rooms of bindings/, lowest first; from the root.
--   The files beside the rooms are above all of them.
--
-- Looks at the object files of the built tree and leaves out those whose source is gone. Prints
-- each offence as `source: what` and ends with status 1 if there is one. Without a built tree
-- there is nothing to check.

local OBJECTS = (os.getenv("BUILD") or "build") .. "/obj/"

local ranks = { engine = {}, bindings = {} }
local order = { engine = {}, bindings = {} }
do
  local tree = "engine"
  for _, name in ipairs(arg) do
    if name == ":" then
      tree = "bindings"
    else
      table.insert(order[tree], name)
      ranks[tree][name] = #order[tree]
    end
  end
end

local function exists(file)
  local f = io.open(file)
  return f and f:close()
end

-- The place of a source in its tree: a number, and the name for messages. nil: not part of it.
local function place_of(source)
  local tree, folder = source:match("^(%w+)/([%w_]+)/[^/]+%.c$")
  if tree then
    return ranks[tree] and ranks[tree][folder], folder
  elseif source:find("^bindings/[^/]+%.c$") then
    return #order.bindings + 1, "the files beside the rooms"
  end
end

local DEFINES = { T = true, D = true, B = true, R = true, C = true }

-- The built sources of a tree, by path: rank, room, the symbols it defines for others, those it uses.
local function read_tree(tree)
  local files = {}
  local pipe = assert(io.popen(("find '%s%s' -name '*.o' 2>/dev/null | sort | xargs -r nm -A -P"):format(
    OBJECTS, tree)))
  for line in pipe:lines() do
    local object, name, kind = line:match("^(.-)%.o: (%S+) (%a)")
    local source = object and object:sub(#OBJECTS + 1) .. ".c"
    if source and files[source] == nil then
      local rank, room = place_of(source)
      local is_checked = rank and not source:find("_test%.c$") and exists(source)
      files[source] = is_checked and { rank = rank, room = room, defined = {}, used = {} } or false
    end
    local file = files[source]
    if file and DEFINES[kind] then
      table.insert(file.defined, name)
    elseif file and kind == "U" then
      table.insert(file.used, name)
    end
  end
  assert(pipe:close(), "nm fails")
  return files
end

local function check_tree(tree)
  local files, definer, offences = read_tree(tree), {}, {}
  for source, file in pairs(files) do
    for _, name in ipairs(file and file.defined or {}) do
      definer[name] = source
    end
  end
  for source, file in pairs(files) do
    for _, name in ipairs(file and file.used or {}) do
      local other = definer[name]
      if other and files[other].rank > file.rank then
        table.insert(offences, ("%s: uses %s of %s: %s is below %s"):format(
          source, name, other, file.room, files[other].room))
      end
    end
  end
  table.sort(offences)
  for _, text in ipairs(offences) do
    io.stderr:write(text, "\n")
  end
  return #offences == 0
end

local engine, bindings = check_tree("engine"), check_tree("bindings")
os.exit(engine and bindings)
