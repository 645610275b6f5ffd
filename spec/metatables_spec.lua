-- Metatables of the library are visible to scripts: getmetatable(mp.Queue()). Their functions
-- accept any argument, from the collector or a script: they raise an error where necessary, and
-- never harm an object.
local support = require "spec.support"
local ok = support.ok

local KINDS = [==[
  local co = mp.co
  local core = require "mpengine.core"
  local made, pools = {}, {}
  local function make(name, f, ...) made[#made + 1] = { name = name, object = f(...), again = f, args = { ... } } end
  for name, f in pairs(core.makers) do
    local without = pcall(f)
    local with = not without and pcall(f, 2)
    if without or with then make(name, f, with and 2 or nil) end
  end
  for _, name in ipairs{ "Manager", "get_logger", "current_process" } do make(name, mp[name]) end
  make("Array", mp.Array, "i", { 1, 2, 3 })
  make("RawArray", mp.RawArray, "d", 3)
  make("ArrayView", function() return mp.Array("d", 9):reshape(3, 3):view(9, 1, -2) end)
  make("Struct", mp.Struct, { { "x", "d" } })
  make("Array of structs", mp.Array, { { "x", "d" }, { "v", "i", 3 } }, 3)
  make("StructRef", function() return mp.Array({ { "x", "d" } }, 3)[1] end)
  make("FieldRef", function() return mp.Array({ { "v", "i", 3 } }, 3)[1].v end)
  make("Value", mp.Value, "i", 1)
  make("RawValue", mp.RawValue, "c", "x")
  make("other end of a pipe", function() return (select(2, mp.Pipe(false))) end)
  make("Process", mp.Process, function() end)
  make("child", core.child_new)
  make("waitlist", core.waitlist)
  make("interrupt", function() return core.interrupt end)
  make("task", co.spawn, function() end)
  for _, name in ipairs{ "Queue", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "AsyncResult",
    "Group", "Local" } do make("co." .. name, co[name]) end
  make("co.Pool", co.Pool, 2)
  make("guard", function() return mp.Lock():guard() end)
  make("guard of a task", function() return co.Lock():guard() end)
  make("iterator's pool", function() pools[#pools + 1] = mp.Pool(1) return pools[#pools] end)
  make("result", function() return pools[1]:apply_async(tostring, { 1 }) end)
  make("map result", function() return pools[1]:map_async(tostring, { 1 }) end)
  make("error", function() return select(2, pcall(pools[1].apply, pools[1], error, { "x" })) end)
  make("SharedMemory", function()
    local m = mp.SharedMemory{ name = "mpengine_spec_" .. core.pid() .. "_" .. #made, create = true, size = 100 }
    m:unlink()
    return m
  end)
  make("Session", mp.http.Session, {})
  local listener = mp.Listener("127.0.0.1:0", { authkey = "k" })
  make("Listener", mp.Listener, "127.0.0.1:0", { authkey = "k" })
  make("Connection", function()
    local client = co.spawn(mp.Client, listener.address, { authkey = "k" })
    listener:accept()
    return client:get()
  end)
  make("pipe of a program", function() return mp.subprocess.Popen{ "cat", stdin = "pipe" }.stdin end)
  make("program", function() return mp.subprocess.Popen and mp.subprocess.Popen{ "true" } or co.Event() end)
  local function foreign()
    local list = { {}, setmetatable({}, {}), io.stdout, 42, -1, 0 / 0, "x", ("x"):rep(1000), true, print,
      coroutine.create(print), function() end, io.tmpfile(), require("socket").tcp(), table.pack() }
    for _, m in ipairs(made) do list[#list + 1] = m.object end
    return list
  end
]==]

describe("a metatable of the library", function()
  it("may be given to a table, which the collector finalizes", function()
    ok(KINDS .. [[
      for round = 1, 3 do
        for _, m in ipairs(made) do
          local meta = debug.getmetatable(m.object)
          for _ = 1, meta and 10 or 0 do pcall(setmetatable, {}, meta) end
          collectgarbage() collectgarbage()
        end
      end]])
  end)

  it("may be given to a table, which every operator is used on", function()
    ok(KINDS .. [[
      local operators = {
        tostring, function(t) return #t end, function(t) return t.x, t[1], t.name, t.pid end, function(t) t.x = 1 end,
        function(t) t[1] = 1 end, function(t) t.name = "x" end, function(t) return t() end,
        function(t) local c <close> = t end,
        function(t) for _ in pairs(t) do break end end, function(t) for _ in ipairs(t) do break end end,
        function(t) return t .. "" end, function(t) return t + 1 end, function(t) return t < t end,
      }
      for _, m in ipairs(made) do
        local meta = debug.getmetatable(m.object)
        if meta then
          for _, f in ipairs(operators) do
            local t = {}
            if pcall(setmetatable, t, meta) then
              pcall(f, t)
              pcall(function() return t == m.object, m.object == t end)
              pcall(mp.wait, { t }, 0) pcall(mp.codec.encode, t)
            end
          end
        end
      end]])
  end)

  it("has finalizers that a script may call with the object in use, which stays as it is", function()
    ok(KINDS .. [[
      for _, m in ipairs(made) do
        local meta = debug.getmetatable(m.object)
        local gc = type(meta) == "table" and rawget(meta, "__gc")
        if gc and m.name ~= "iterator's pool" then
          local before = tostring(m.object)
          for _, x in ipairs(foreign()) do pcall(gc, x) end
          pcall(gc) pcall(gc, m.object, m.object)
          eq(tostring(m.object), before, m.name)
        end
      end
      local q, l, a, d = mp.Queue(), mp.Lock(), mp.Array("i", { 1, 2 }), mp.Dict{ x = 1 }
      local t = co.spawn(function() return q:get() end)
      co.sleep(0)
      for _, o in ipairs{ q, l, a, d } do getmetatable(o).__gc(o) end
      eq(d:modify("x", function(v) getmetatable(d).__gc(d) return v + 1 end), 2)
      q:put("came") eq(t:get(1), "came")
      l:acquire() l:release() eq(a:totable(), { 1, 2 }) eq(d.x, 2)]])
  end)

  it("has methods and metamethods that answer whatever they are called with", function()
    ok(KINDS .. [[
      local seen, never = {}, { take_back = true, wait_shielded = true } -- nothing ends these waits
      local function call(...) co.with_timeout(0, pcall, ...) end
      local function throw(f)
        for _, x in ipairs(foreign()) do call(f, x) call(f, x, x) call(f, x, 1, 1) call(f, x, "a", print) end
        call(f)
      end
      local function walk(t, depth)
        if type(t) ~= "table" or seen[t] or depth > 2 or t == _G then return end
        seen[t] = true
        for name, f in pairs(t) do
          if type(f) == "function" and not seen[f] and not never[name] then
            seen[f] = true
            throw(f)
          elseif type(f) == "table" and (name == "__index" or name == "methods") then
            walk(f, depth + 1)
          end
        end
      end
      io.stderr:close()
      for _, m in ipairs(made) do walk(debug.getmetatable(m.object), 0) end
      for _ = 1, 3 do collectgarbage() end
      for _, m in ipairs(made) do pcall(m.again, table.unpack(m.args)) end
      local q = mp.Queue()
      P(function() q:put(1) end)
      eq(q:get(5), 1)]], { timeout = 60 })
  end)

  it("is distinguished from another in the message of a method that gets the wrong object", function()
    ok[[
      raises({ "put", "mp.Queue expected, got mp.Lock" }, mp.Queue().put, mp.Lock(), 1)
      raises({ "put", "mp.Queue expected, got table" }, mp.Queue().put, setmetatable({}, {}), 1)
      raises({ "put", "mp.Queue expected, got mp.Queue" }, mp.Queue().put,
        setmetatable({}, getmetatable(mp.Queue())), 1)
      raises({ "acquire", "mp.Lock expected, got FILE*" }, mp.Lock().acquire, io.stdout)
      raises({ "tostring", "mp.Process expected" }, tostring, setmetatable({}, getmetatable(mp.Process(print))))
      raises({ "mp.co.Local expected" }, function() return setmetatable({}, getmetatable(mp.co.Local())).x end)]]
  end)
end)
