-- Checks that the tree is the architecture: which files may include which.
--
--   lua5.4 tools/layers.lua base os core ... : base codec task ...
--
--   The layers of engine/ and, after the colon, the rooms of bindings/, lowest first; from the root.
--
--   engine/<layer>/     its own folder, lower layers, the public headers; tests also testing/
--   engine/include/     standard and public headers
--   engine/examples/    the public headers: what a host has
--   bindings/<room>/    its own folder, lower rooms, the public headers
--   bindings/           every room, the public headers
--   uv.h                only in loop/, proc/, bindings/io/lluv* and the hosts; a header of Lua nowhere in engine/
--   names of files      once in engine/ and bindings/ together
--
-- Prints each offence as `file:line: what` and ends with status 1 if there is one.

local UV_LAYERS = { loop = true, proc = true }

local rank, room_rank = {}, {} -- by folder of engine/ and of bindings/
do
  local into = rank
  for i, name in ipairs(arg) do
    if name == ":" then into = room_rank else into[name] = i end
  end
end

local offences = 0

local function complain(file, line, format, ...)
  offences = offences + 1
  io.stderr:write(("%s:%d: "):format(file, line), format:format(...), "\n")
end

local function exists(file)
  local f = io.open(file)
  return f and f:close()
end

local function c_files()
  local pipe = assert(io.popen("find engine bindings -name '*.[ch]' | sort"))
  local files = {}
  for file in pipe:lines() do
    files[#files + 1] = file
  end
  pipe:close()
  return files
end

local function is_public(name)
  return not name:find("/") and exists("engine/include/" .. name)
end

-- Why a file in `folder` of engine/ may not include "name", or nil.
local function engine_offence(file, folder, name)
  if is_public(name) then
    return nil
  end
  local target = name:match("^([%w_]+)/[%w_]+%.h$")
  if folder == "include" or folder == "examples" or folder == "hosts" then
    return "only public headers may be included here"
  elseif target == "testing" then
    if folder ~= "testing" and not file:find("_test%.c$") then
      return "testing/ is for tests"
    end
  elseif not rank[target] then
    return "no layer of the engine is named in this path"
  elseif rank[folder] and rank[target] > rank[folder] then
    return ("layer %s may not include from layer %s above it"):format(folder, target)
  end
end

-- The same for a file in `room` of bindings/, nil for a file beside the rooms.
local function bindings_offence(room, name)
  if is_public(name) or name == "mpengine_lua.h" then
    return nil
  end
  local target = name:match("^([%w_]+)/[%w_]+%.h$")
  if not exists("bindings/" .. name) then
    return "bindings include public headers and their own, nothing else of the engine"
  elseif room_rank[room] and (not room_rank[target] or room_rank[target] > room_rank[room]) then
    return ("room %s may not include from above it"):format(room)
  end
end

local function is_lua_header(name)
  return name:find("^lua") or name:find("^lauxlib%.h") or name:find("/lua[%w_]*%.h$")
end

local function may_use_uv(file, folder)
  return UV_LAYERS[folder] or file:find("/examples/") or file:find("/hosts/")
      or file:find("^bindings/testing/") or file:find("^bindings/io/lluv")
end

local function check_file(file)
  local folder = file:match("^engine/([%w_]+)/")
  local number = 0
  for text in io.lines(file) do
    number = number + 1
    local quote, name = text:match('^%s*#%s*include%s*([<"])([^>"]+)[>"]')
    if name then
      local offence
      if quote == '"' then
        offence = folder and engine_offence(file, folder, name)
          or not folder and bindings_offence(file:match("^bindings/([%w_]+)/"), name)
      end
      if folder and is_lua_header(name) then
        offence = "the engine knows no Lua"
      elseif name:find("^uv[./]") and not may_use_uv(file, folder) then
        offence = "libuv is known to loop/, proc/ and lluv only"
      end
      if offence then
        complain(file, number, "%s: %s", name, offence)
      end
    end
  end
end

local first_with = {}
for _, file in ipairs(c_files()) do
  check_file(file)
  local name = file:match("[^/]+$")
  if first_with[name] then
    complain(file, 1, "%s is also the name of %s", name, first_with[name])
  end
  first_with[name] = file
end

os.exit(offences == 0)
