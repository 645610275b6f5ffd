-- Checks that the API says one thing everywhere.
--
--   lua5.4 tools/api.lua          from the root; BUILD names the built tree, "build" when absent
--
--   C     every function of the public headers has a comment above it, a test or example that calls
--         it, and, unless it is for hosts or in C_ONLY, a binding that calls it; libmpengine.so exports nothing but
--         names with the prefix mpe_
--   Lua   every function and method of the library has an annotation in bindings/library, and every
--         annotation a function: the modules and one object of each class are compared, both ways; each
--         says in words what the function does
--
-- What needs the library is left out when it is not built, and a line says so. Prints each offence and
-- ends with status 1 if there is one.

local build = os.getenv "BUILD" or "build"
local ANNOTATIONS = "bindings/library/mpengine.lua"
local HEADERS = {
  "engine/include/mpengine.h", "engine/include/mpengine_core.h", "engine/include/mpengine_wire.h",
  "bindings/mpengine_lua.h",
}

local offences = 0

local function complain(format, ...)
  offences = offences + 1
  io.stderr:write(format:format(...), "\n")
end

local function read(path)
  local f <close> = assert(io.open(path))
  return f:read "a"
end

local function output_of(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read "a"
end

local function exists(path)
  local f = io.open(path)
  return f ~= nil and f:close()
end

local function set_of(words)
  local set = {}
  for word in words:gmatch "%S+" do set[word] = true end
  return set
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- ---- the C API -----------------------------------------------------------------------------------

-- Every function of this header is for hosts, whether or not the bindings call it.
local FOR_HOSTS = "engine/include/mpengine.h"

-- Functions of the other headers of the engine that no binding needs.
local C_ONLY = set_of [[
  mpe_await mpe_buf_grow mpe_queue_get_leased
]]

-- The functions of a header: a list of { name, line, commented }.
local function declared(path)
  local list, above, number = {}, "", 0
  for line in io.lines(path) do
    number = number + 1
    local name = line:match "^MPE_API .-([%w_]+)%s*%("
    if name then list[#list + 1] = { name = name, line = number, commented = above:find "%*/%s*$" ~= nil } end
    above = line
  end
  return list
end

-- Their code, all in one, without comments.
local function code_of(find_arguments)
  local text = {}
  for path in output_of("find " .. find_arguments):gmatch "%S+" do
    text[#text + 1] = read(path):gsub("/%*.-%*/", " ")
  end
  return table.concat(text, "\n")
end

local function check_function(path, f, tests, bindings)
  local call = "%f[%w_]" .. f.name .. "%f[^%w_]"
  if not f.commented then complain("%s:%d: %s has no comment of its own", path, f.line, f.name) end
  if not tests:find(call) then
    complain("%s:%d: no test or example calls %s: add a case to a *_test.c", path, f.line, f.name)
  end
  if path == FOR_HOSTS or path:find "^bindings" then return end
  local bound = bindings:find(call) ~= nil
  if not bound and not C_ONLY[f.name] then
    complain("%s:%d: no binding calls %s: call it, or add it to C_ONLY in tools/api.lua", path, f.line, f.name)
  elseif bound and C_ONLY[f.name] then
    complain("tools/api.lua: C_ONLY lists %s, which a binding calls: take it out", f.name)
  end
end

local function check_headers()
  local tests = code_of("engine bindings -name '*_test.c' -o -path '*/testing/*.[ch]'"
    .. " -o -path '*/examples/*.c' -o -path '*/hosts/*.c'")
  local bindings = code_of("bindings -name '*.[ch]' -not -path '*/fuzz/*' -not -path '*/examples/*'"
    .. " -not -path '*/hosts/*' -not -path '*/testing/*'")
  for _, path in ipairs(HEADERS) do
    for _, f in ipairs(declared(path)) do check_function(path, f, tests, bindings) end
  end
end

local function check_exports()
  for name in output_of(("nm -D --defined-only %s/libmpengine.so"):format(build)):gmatch "%S+ [A-Z] ([%w_]+)" do
    if not name:find "^mpe_[%w]" then complain("libmpengine.so exports %s", name) end
  end
end

-- ---- annotations ---------------------------------------------------------------------------------

-- The functions of each class, { Queue = { put = true, … }, mp = { … }, … }, without the inherited ones,
-- the classes that each one extends, and the class of what each function mp.NAME returns.
local function annotated()
  local classes, parents, class_of, returned = {}, {}, {}, {}
  local class, result
  for line in io.lines(ANNOTATIONS) do
    local name, extended = line:match "^%-%-%-@class mpengine%.?([%w_.]*)%s*:?%s*(.*)$"
    if name then
      class = name == "" and "mp" or name
      classes[class], parents[class] = {}, {}
      for parent in extended:gmatch "mpengine%.([%w_.]+)" do table.insert(parents[class], parent) end
    end
    local variable = line:match "^local ([%w_]+) = {}"
    if variable then class_of[variable] = class end
    local owner, method = line:match "^function ([%w_]+)[.:]([%w_]+)%("
    if owner then classes[assert(class_of[owner], owner)][method] = true end
    result = line:match "^%-%-%-@return mpengine%.([%w_.]+)" or result
    if owner == "mp" then returned[method] = result end
    if owner then result = nil end
  end
  return classes, parents, returned
end

local classes, parents, returned = annotated()

-- What says when a function raises or waits, and not what it does.
local CONDITIONS <const> = { "^Raises ", "^Never ", "^Atomic", "^Does not " }

local function says_what_it_does(text)
  for _, pattern in ipairs(CONDITIONS) do
    if (text or ""):find(pattern) then return false end
  end
  return text ~= nil
end

-- What a function does is said for each, before anything else.
local function check_texts()
  for _, f in ipairs((dofile "bindings/mpengine/repl/annotations.lua".parse(io.lines(ANNOTATIONS)))) do
    local is_field = f.class == "RemoteManager" -- as those of the local objects
    if not says_what_it_does(f.text[1]) and not is_field then
      complain("%s: %s does not say what it does: add a line above its annotations", ANNOTATIONS, f.signature)
    end
  end
end

-- What an object of the class must have.
local function required(class)
  local all = {}
  for method in pairs(classes[class]) do all[method] = true end
  for _, parent in ipairs(parents[class]) do
    for method in pairs(required(parent)) do all[method] = true end
  end
  return all
end

local function extends(class, ancestor)
  for _, parent in ipairs(parents[class]) do
    if parent == ancestor or extends(parent, ancestor) then return true end
  end
  return false
end

-- What it may have beside that: one metatable serves a class and those that extend it, such as Queue and
-- JoinableQueue.
local function permitted(class)
  local all = required(class)
  for other in pairs(classes) do
    if extends(other, class) then
      for method in pairs(classes[other]) do all[method] = true end
    end
  end
  return all
end

-- ---- the Lua API as it is ------------------------------------------------------------------------

local function add_functions(found, t)
  for key, value in next, t do
    if type(key) == "string" and type(value) == "function" and not key:find "^_" then found[key] = true end
  end
end

-- The methods that an object is known to have, through the tables of its metatable.
local function methods_of(object)
  local found, meta = {}, debug.getmetatable(object)
  for _, field in ipairs { "methods", "__index" } do
    local t = meta and rawget(meta, field)
    while type(t) == "table" do
      if t ~= meta or field == "__index" then add_functions(found, t) end
      local outer = debug.getmetatable(t)
      t = outer and rawget(outer, "__index")
    end
  end
  return found
end

-- Methods that the library uses itself and a script does not.
local INTERNAL = {
  server = set_of "new work",
  AsyncResult = set_of "cancel_with class of set set_error",
  Barrier = set_of "meet open settings state",
  Condition = set_of "is_mine",
  Lock = set_of "is_mine",
  RLock = set_of "is_mine",
  ["co.Condition"] = set_of "is_mine",
  ["co.Lock"] = set_of "give_up is_mine take_back",
  ["co.RLock"] = set_of "give_up is_mine take_back",
  ["co.Group"] = set_of "discard",
  ["co.Pool"] = set_of "discard free_count wait_available",
  http = set_of "Headers",
  ["http.WebSocket"] = set_of "drop",
}

local function compare(class, found, has)
  local needed, allowed, internal = required(class), permitted(class), INTERNAL[class] or {}
  for _, name in ipairs(sorted(needed)) do
    if not has(name) then complain("%s: %s.%s is annotated and does not exist", ANNOTATIONS, class, name) end
  end
  for _, name in ipairs(sorted(found)) do
    if not allowed[name] and not internal[name] then
      complain("%s: %s.%s is not annotated: do that, or add it to INTERNAL of tools/api.lua", ANNOTATIONS, class, name)
    end
  end
end

local function compare_object(class, object)
  compare(class, methods_of(object), function(name) return type(object[name]) == "function" end)
end

-- Functions of a module that are loaded when they are first used are found by their annotation alone.
local function compare_module(class, module)
  local found = {}
  add_functions(found, module)
  compare(class, found, function(name) return type(module[name]) == "function" end)
end

-- Adds an object of each kind of shared object, by its class: made without arguments, with a number, or
-- with a type code and a number.
local function add_kinds(objects, mp)
  for name in pairs(require "mpengine.core".makers) do
    for _, args in ipairs { {}, { 1 }, { "i", 1 } } do
      local made, object = pcall(mp[name], table.unpack(args))
      if made then
        if returned[name] then objects[returned[name]] = object end
        break
      end
    end
  end
end

-- One object of each class that has methods.
local function samples(mp)
  local co = mp.co
  local pool, group = mp.Pool { processes = 1 }, co.Group()
  local program = mp.subprocess.Popen { "true", stdin = "pipe" }
  local listener = mp.Listener("127.0.0.1:0", { authkey = "key" })
  local client = co.spawn(mp.Client, listener.address, { authkey = "key" })
  listener:accept()
  local scope
  co.scope(function(s) scope = s end)
  local objects = {
    Process = mp.Process { target = print }, Manager = mp.Manager(), Guard = mp.Lock():guard(),
    Pool = pool, AsyncResult = pool:apply_async(print),
    SharedMemory = mp.SharedMemory { create = true, size = 1 }, Logger = mp.get_logger(),
    Handler = mp.get_logger():add_handler { to = print },
    Task = co.spawn(print), Scope = scope, ["co.AsyncResult"] = co.AsyncResult(), ["co.Group"] = group,
    ["co.Pool"] = co.Pool(1), ["co.Event"] = co.Event(), ["co.Queue"] = co.Queue(),
    ["co.JoinableQueue"] = co.JoinableQueue(), ["co.Lock"] = co.Lock(), ["co.RLock"] = co.RLock(),
    ["co.Semaphore"] = co.Semaphore(1), ["co.Condition"] = co.Condition(), ["http.Session"] = mp.http.Session(),
    StreamServer = mp.server.StreamServer { handler = print },
    ["http.WebSocket"] = setmetatable({}, require("mpengine.core").WebSocket),
    ["http.ServerRequest"] = setmetatable({}, require "mpengine.http.request"),
    Supervisor = mp.Supervisor { { name = "sample", target = print } },
    Struct = mp.Struct { { "x", "d" } }, StructRef = mp.Array({ { "x", "d" } }, 1)[1],
    FieldRef = mp.Array({ { "x", "d", 2 } }, 1)[1].x,
    Socket = require("mpengine.core").listen("127.0.0.1", 0, 1),
    Listener = listener, Connection = client:get(),
    ["subprocess.Popen"] = program, ["subprocess.Pipe"] = program.stdin,
  }
  add_kinds(objects, mp)
  objects.AsyncResult:wait()
  pool:terminate()
  return objects
end

local function check_lua()
  package.path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s"):format(build, build, package.path)
  package.cpath = ("%s/lua/?.so;%s"):format(build, package.cpath)
  local mp = require "mpengine"
  local modules = {
    mp = mp, co = mp.co, http = mp.http, monkey = mp.monkey, subprocess = mp.subprocess, codec = mp.codec,
    server = mp.server,
  }
  local objects, extended = samples(mp), {}
  for _, list in pairs(parents) do
    for _, parent in ipairs(list) do extended[parent] = true end
  end
  for _, class in ipairs(sorted(classes)) do
    if modules[class] then
      compare_module(class, modules[class])
    elseif objects[class] then
      compare_object(class, objects[class])
    elseif next(classes[class]) and not extended[class] then
      complain("tools/api.lua: no sample object of class %s: add one to samples", class)
    end
  end
  for class in pairs(objects) do
    if not classes[class] then complain("%s: no class mpengine.%s", ANNOTATIONS, class) end
  end
  objects.SharedMemory:unlink()
end

check_headers()
check_texts()
if exists(build .. "/libmpengine.so") and exists(build .. "/lua/mpengine/core.so") then
  check_exports()
  check_lua()
else
  print "api: nothing is built, so the exported names and the Lua API were not looked at"
end
os.exit(offences == 0, true)
