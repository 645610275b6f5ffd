local support = require "spec.support"
local ok = support.ok

-- Shared memory returns to its former level when no process can reach the objects any more: after
-- loops that make and drop them, store and replace them, or share them with a process that is
-- killed.

local KINDS <const> = {
  Lock = "mp.Lock()", RLock = "mp.RLock()", Semaphore = "mp.Semaphore(2)", Event = "mp.Event()",
  RateLimiter = "mp.RateLimiter(5)", Condition = "mp.Condition()", Barrier = "mp.Barrier(2)", Queue = "mp.Queue(4)",
  JoinableQueue = "mp.JoinableQueue()", Pipe = "mp.Pipe()", Array = "mp.Array('d', 20000)",
  Value = "mp.Value('i', 1)", RawArray = "mp.RawArray('B', 300000)",
  ArrayView = "mp.Array('d', 20000):view(1, 20000, 2)",
  ["Array of structs"] = "mp.Array({ { 'x', 'd' }, { 'name', 's5' } }, 5000)",
  ["view of a field"] = "mp.Array({ { 'x', 'd' }, { 'name', 's5' } }, 5000):field 'x'",
  Dict = "mp.Dict{ a = 1, b = ('x'):rep(20000) }", List = "mp.List{ 1, ('x'):rep(20000) }",
}
local names = {}
for name in pairs(KINDS) do names[#names + 1] = name end
table.sort(names)

-- In the program: make() makes one; flat(rounds, f) expects that f, called so often, leaves no more than
-- 2 MiB and 200 objects lying about at any time.
local HELPERS <const> = [[
  local function make() return MAKE end
  local function flat(rounds, f)
    for _ = 1, 5 do f() end
    collectgarbage()
    local from = mp.stats()
    for i = 1, rounds do
      f(i)
      if i % 100 == 0 or i == rounds then
        collectgarbage()
        local to = mp.stats()
        assert(to.arena.used < from.arena.used + 2 * 1024 * 1024,
          ("%d -> %d bytes after %d rounds"):format(from.arena.used, to.arena.used, i))
        assert(#to.objects < #from.objects + 200, ("%d -> %d objects"):format(#from.objects, #to.objects))
        assert(#to.processes == #from.processes, "a slot is lost")
      end
    end
  end
]]

describe("shared memory that only garbage has", function()
  local small = { env = { MPENGINE_SHM_LIMIT = "64M" } }
  -- Without pressure on the collector, which is stopped, only the call that finds no memory can collect.
  local CALLS <const> = {
    ["a queue's put"] = "local q = mp.Queue() q:put(s)",
    ["a closed queue's"] = "local q <close> = mp.Queue() q:put(s)",
    ["a JoinableQueue's"] = "local q = mp.JoinableQueue() q:put(s)",
    ["a full queue's, when there is room"] = [[
      local q = mp.Queue(1) q:put(1)
      local t = mp.co.spawn(function() return q:put(s, 10) end)
      mp.co.sleep(0) q:get() assert(t:get())]],
    ["a pipe's send"] = "local a, b = mp.Pipe() b:send(s)",
    ["a pipe's send_bytes"] = "local a, b = mp.Pipe() b:send_bytes(s)",
    ["a dict's assignment"] = "local d = mp.Dict() d.x = s",
    ["a dict's set"] = "local d = mp.Dict() d:set('x', s)",
    ["a dict's setdefault"] = "local d = mp.Dict() d:setdefault('x', s)",
    ["a dict's update"] = "local d = mp.Dict() d:update{ x = s }",
    ["a dict's modify"] = "local d = mp.Dict() d:modify('x', function() return s end)",
    ["a list's assignment"] = "local l = mp.List() l[1] = s",
    ["a list's append"] = "local l = mp.List() l:append(s)",
    ["a list's insert"] = "local l = mp.List{ 1 } l:insert(1, s)",
    ["a list's extend"] = "local l = mp.List() l:extend{ s }",
    ["a dict"] = "local d = mp.Dict{ x = s }",
    ["a list"] = "local l = mp.List{ s }",
    ["an array"] = "local a = mp.Array('c', s)",
    ["a barrier with settings"] = "local b = mp.Barrier(2) local d = mp.Dict{ b, s }",
    ["a list that is replaced in a dict"] = "D = D or mp.Dict() D.x = mp.List{ s }",
    ["an array that was sent and taken"] = "Q = Q or mp.Queue() Q:put(mp.Array('c', s)) Q:get()",
    ["a cycle"] = "local d = mp.Dict{ x = s } d.self = d",
    ["an object of a finalizer"] = "local q = mp.Queue() q:put(s) setmetatable({}, { __gc = function() return q end })",
    ["a process's message"] = "local d = mp.Dict{ x = s } P(function() return d end):join()",
  }
  for what, code in pairs(CALLS) do
    it("is given back before a call says that it is exhausted: " .. what, function()
      ok([[
        collectgarbage("stop")
        local s = ("x"):rep(10 << 20)
        for _ = 1, 20 do (function() ]] .. code .. [[ end)() end]], small)
    end)
  end

  it("is not taken from values that finalizers send in the meantime", function()
    ok([[
      collectgarbage("stop")
      local s, sent = ("x"):rep(10 << 20), mp.Queue()
      for i = 1, 20 do
        local q = mp.Queue()
        q:put(s .. i)
        setmetatable({}, { __gc = function() sent:put(#q:get() + i) end })
        local own = mp.Queue()
        own:put{ i, "own" }
        eq(own:get(), { i, "own" })
        if i % 5 == 0 then
          local t = mp.Queue()
          t:put(s .. "end")
          eq(t:get():sub(-3), "end")
        end
      end
      assert(sent:qsize() >= 10)]], small)
  end)

  it("makes the collector run, in the process that drops it too", function()
    ok([[
      local function committed() return mp.stats().arena.committed >> 20 end
      local s = ("x"):rep(1 << 20)
      for _ = 1, 200 do local q = mp.Queue() for _ = 1, 4 do q:put(s) end end
      assert(committed() < 100, committed())
      local jobs, done = mp.Queue(4), mp.Queue()
      local p = P(function() for job in jobs:iter() do done:put(#job) end end)
      for _ = 1, 100 do jobs:put(mp.Array("c", s)) end
      jobs:close()
      p:join()
      assert(committed() < 150, committed())]])
  end)

  it("that is not garbage stays exhausted, and the call has changed nothing", function()
    ok([[
      local s, kept = ("x"):rep(10 << 20), {}
      raises("shared memory exhausted", function()
        for i = 1, 20 do
          local q = mp.Queue()
          q:put(s)
          kept[i] = q
        end
      end)
      for i, q in ipairs(kept) do eq(q:qsize(), 1) end
      kept = nil
      mp.Queue():put(s)]], small)
  end)
end)

for _, name in ipairs(names) do
  describe("shared memory of a " .. name, function()
    local function with(code)
      return ok(((HELPERS .. code):gsub("MAKE", KINDS[name])))
    end

    it("stays flat in a loop that makes and drops it", function()
      with[[flat(400, function(i) make() if (i or 1) % 10 == 0 then collectgarbage() end end)]]
    end)

    it("stays flat in a loop that replaces it in a dict and in a list, and removes it", function()
      with[[
        local d, l = mp.Dict(), mp.List{ 0 }
        flat(300, function(i)
          d.x, l[1] = make(), make()
          if (i or 1) % 3 == 0 then d:clear() l:clear() l:append(0) end
          if (i or 1) % 10 == 0 then collectgarbage() end
        end)]]
    end)

    it("is given back when it was only in a dict that is dropped", function()
      with[[
        flat(200, function(i)
          local d = mp.Dict()
          d.x = make()
          d.y = { d.x }
          if (i or 1) % 10 == 0 then collectgarbage() end
        end)]]
    end)

    it("stays flat in a loop that shares it with a process and kills that", function()
      with[[
        local ready = mp.Queue()
        flat(12, function()
          local shared = make()
          local p = P(function(s)
            local own, kept = make(), mp.Dict{ s }
            ready:put(own and kept and true)
            mp.sleep(60)
          end, shared)
          ready:get()
          p:kill()
          p:join()
          p:close()
        end)]]
    end)
  end)
end
