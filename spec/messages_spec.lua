-- Every public function and method, called with wrong arguments, without its object and with another one:
-- what it raises names the call and never a place inside the library.
local support = require "spec.support"

-- call(name, f, ...) calls f, through pcall, for at most a moment, and looks at its error. self_of[name] is what a
-- message about the object has to name.
local LOOK = [==[
  local co, http, subprocess, monkey = mp.co, mp.http, mp.subprocess, mp.monkey
  local WRONG = { -1, 0/0, "x", true, {}, function() end, coroutine.create(print), io.stdout, 1.5, { 1 },
    { nonsense = 1 } }
  local bad, seen = {}, {}
  print = function() end
  local function text_of(err) return tostring(type(err) == "table" and err.message or err):match "^[^\n]*" end
  local function look(name, err, must)
    local text = text_of(err)
    local of_script = text:find "attempt to compare"
    local wrong = text:find "mpengine/[%w_/]+%.lua:%d" or text:find("'?'", 1, true)
      or text:find "attempt to" and not of_script
    if must and not text:find(must, 1, true) then wrong = true end
    if wrong and not seen[name] then
      seen[name] = true
      bad[#bad + 1] = name .. ": " .. text
    end
  end
  local function call(name, must, f, ...)
    local ok, err = pcall(co.with_timeout, 0.05, f, ...)
    if not ok then look(name, err, must) end
  end
  local function call_all(name, f, ...)
    local args = table.pack(...)
    local function with(...)
      local all = table.move({ ... }, 1, select("#", ...), args.n + 1, table.move(args, 1, args.n, 1, {}))
      call(name, nil, f, table.unpack(all, 1, args.n + select("#", ...)))
    end
    with()
    for _, w in ipairs(WRONG) do
      with(w)
      with(w, w)
      with({}, w)
      with("i", w)
      with("http://127.0.0.1:1/", w)
      with(function() end, w)
      with(function() end, {}, w)
    end
  end
  local function done()
    if #bad > 0 then error(table.concat(bad, "\n"), 0) end
    os.exit(0)
  end
]==]

local function looks(code)
  support.ok(LOOK:gsub("\n%s*", " ") .. code .. " done()",
    { timeout = 60, env = { no_proxy = "*" } })
end

describe("a message about a wrong argument", function()
  it("names no place inside the library: functions of mp", function()
    looks[[
      local skip = { sleep = true, Pool = true, get_context = true, codec = true }
      local names = { "Manager", "wait", "SharedMemory", "signal", "log_to_stderr", "get_logger", "stats" }
      for name in pairs(mp) do names[#names + 1] = name end
      for _, name in ipairs(names) do
        if type(mp[name]) == "function" and not skip[name] then call_all("mp." .. name, mp[name]) end
      end
      for _, w in ipairs{ -1, "x", true, print } do
        call("mp.sleep", "sleep", mp.sleep, w)
        call("mp.Pool", "Pool", mp.Pool, w)
        call("mp.get_context", "get_context", mp.get_context, w)
      end
      call_all("codec.encode", mp.codec.encode) call_all("codec.decode", mp.codec.decode)]]
  end)

  it("names no place inside the library: functions of co, http, subprocess and monkey", function()
    looks[[
      local skip = { spawn = true, watchdog = true }
      for _, module in ipairs{ "co", "http", "subprocess", "monkey" } do
        for name, f in pairs(mp[module]) do
          if type(f) == "function" and not skip[name] then call_all(module .. "." .. name, f) end
        end
      end
      for _, w in ipairs{ -1, "x", true } do call("co.spawn", "spawn", co.spawn, w) end]]
  end)

  it("names the method, also without its object and with another one", function()
    looks[[
      local made = { Queue = mp.Queue(), JoinableQueue = mp.JoinableQueue(), Pipe = mp.Pipe(), Array = mp.Array("i", 3),
        Value = mp.Value("i", 1), RawArray = mp.RawArray("i", 2),
        ArrayView = mp.Array("i", 6):reshape(2, 3), StructRef = mp.Array({ { "x", "d" } }, 1)[1],
        Struct = mp.Struct{ { "x", "d" } },
        FieldRef = mp.Array({ { "v", "i", 3 } }, 1)[1].v, Dict = mp.Dict(), List = mp.List(), Lock = mp.Lock(),
        RLock = mp.RLock(), Semaphore = mp.Semaphore(1), BoundedSemaphore = mp.BoundedSemaphore(1), Event = mp.Event(),
        Condition = mp.Condition(), Barrier = mp.Barrier(2), ["co.Event"] = co.Event(), ["co.Queue"] = co.Queue(),
        ["co.Lock"] = co.Lock(), ["co.RLock"] = co.RLock(), ["co.Semaphore"] = co.Semaphore(1),
        ["co.Condition"] = co.Condition(), ["co.AsyncResult"] = co.AsyncResult(),
        Task = co.spawn(function() end) }
      local private = { is_mine = true, give_up = true, take_back = true, settings = true, meet = true, open = true,
        state = true }
      for class, object in pairs(made) do
        local meta = getmetatable(object)
        local methods = meta.methods or meta.__index
        local last = class:match "[^.]*$"
        for name, f in pairs(methods) do
          if type(f) == "function" and not private[name] and not name:find "^__" then
            for _, w in ipairs{ 5, "x", {}, io.stdout, print, co.current } do
              call(class .. ":" .. name .. " of another", ":" .. name, f, w)
            end
            call(class .. ":" .. name .. " of none", ":" .. name, f)
            if name ~= "close" and name ~= "set" then call_all(class .. ":" .. name, f, object) end
          end
        end
      end]]
  end)

  it("names the method of an object written in Lua", function()
    looks[[
      local pool = mp.Pool(1)
      local lists = {
        [mp.Process(print)] = { "Process:", "start", "join", "is_alive", "terminate", "kill", "close" },
        [mp.Manager()] = { "Manager:", "dict", "Queue", "Lock", "Pool", "shutdown" },
        [co.Group()] = { "co.Group:", "spawn", "add", "join", "kill" },
        [co.Pool(2)] = { "co.Pool:", "map", "imap", "imap_unordered", "apply", "apply_async", "map_async", "starmap" },
        [http.Session()] = { "http.Session:", "get", "post", "put", "patch", "delete", "head", "request", "close" },
        [pool] = { "Pool:", "apply", "apply_async", "map", "map_async", "starmap", "imap", "close", "join", "stats" },
        [pool:apply_async(function() end)] = { "AsyncResult:", "get", "wait", "ready", "cancel" },
        [mp.get_logger()] = { "Logger:", "log", "debug", "set_level", "get_level" },
      }
      for object, list in pairs(lists) do
        for i = 2, #list do
          local f = object[list[i] ]
          call(list[1] .. list[i] .. " of none", ":" .. list[i], f)
          for _, w in ipairs{ 5, "x", {}, io.stdout } do
            call(list[1] .. list[i] .. " of another", ":" .. list[i], f, w)
          end
        end
      end
      for _, w in ipairs(WRONG) do
        call("Pool:apply", nil, pool.apply, pool, w)
        if w ~= print then call("Pool:map", nil, pool.map, pool, print, w) end
      end]]
  end)

  it("is the same through pcall as from a call, with the expected and the actual argument", function()
    support.ok[[
      local co, http = mp.co, mp.http
      local q, pool, cpool = mp.Queue(), mp.Pool(1), co.Pool(1)
      local function says(want, f, ...)
        local args = table.pack(...)
        for _, way in ipairs{ function() return pcall(f, table.unpack(args, 1, args.n)) end,
          function() return pcall(function() f(table.unpack(args, 1, args.n)) end) end } do
          local ok, err = way()
          assert(not ok)
          eq(tostring(err):gsub("^[^\n]-script.lua:%d+: ", ""), want)
        end
      end
      local TIMEOUT = " (timeout must be a number of seconds, 0 or more)"
      says("bad argument #1 to 'Queue:get'" .. TIMEOUT, q.get, q, -1)
      says("calling 'Queue:get' on bad self (mp.Queue expected, got nil)", q.get, nil)
      says("bad argument #1 to 'co.killall' (element 1: task expected, got number)", co.killall, { 1 })
      says("bad argument #2 to 'Pool:apply' (table of args expected, got number)", pool.apply, pool, print, 1)
      says("bad argument #3 to 'co.Pool:map' (table of options expected, got number)", cpool.map, cpool, print, {}, 5)
      says("bad argument #1 to 'Event:wait'" .. TIMEOUT, mp.Event().wait, mp.Event(), "x")
      says("bad argument #1 to 'co.Lock:acquire'" .. TIMEOUT, co.Lock().acquire, co.Lock(), -1)
      says("bad argument #1 to 'Task:join'" .. TIMEOUT, co.current().join, co.current(), -1)
      says("calling 'Lock:with' on bad self (mp.Lock expected, got mp.Queue)", mp.Lock().with, q, print)
      says("bad argument #1 to 'http.get' (url: string expected, got no value)", http.get)
      says("bad argument #1 to 'Process:join'" .. TIMEOUT, mp.current_process().join, mp.current_process(), -1)]]
  end)
end)
