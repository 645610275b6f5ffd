-- Names of shared objects.
local support = require "spec.support"
local ok, prints = support.ok, support.prints

describe("a named object", function()
  it("is made by every constructor, from a table of fields", function()
    ok [[
      local lock = mp.Lock()
      local named = {
        mp.Queue{ name = "n" }, mp.JoinableQueue{ name = "n" }, mp.Pipe{ name = "n" }, mp.Lock{ name = "n" },
        mp.RLock{ name = "n" }, mp.Event{ name = "n" }, mp.Condition{ name = "n" }, mp.Semaphore{ name = "n" },
        mp.BoundedSemaphore{ name = "n" }, mp.Barrier{ parties = 2, name = "n" },
        mp.Array{ type = "i", size = 3, name = "n" }, mp.RawArray{ type = "i", size = 3, name = "n" },
        mp.Value{ type = "i", name = "n" }, mp.RawValue{ type = "i", name = "n" }, mp.Dict({}, { name = "n" }),
        mp.List({}, { name = "n" }), mp.Dict(nil, { name = "n" }), mp.Pool{ processes = 1, name = "n" },
      }
      for i, x in ipairs(named) do
        assert(tostring(x):find("^mp%.%a+: %w+ 'n'"), i .. ": " .. tostring(x))
      end
      eq(#named, 18)
      assert(not tostring(lock):find("'"), tostring(lock))
    ]]
  end)

  it("takes the other fields as its arguments", function()
    ok [[
      local q = mp.Queue{ maxsize = 1, name = "q" }
      eq(q:put(1), true)
      eq({ q:put(2, 0) }, { nil, "full" })
      eq(mp.Semaphore{ value = 3 }:get_value(), 3)
      eq(mp.Barrier{ parties = 4 }.parties, 4)
      eq(#mp.Array{ type = "d", size = { 1, 2 } }, 2)
      eq(mp.Value{ type = "d", value = 2.5 }.value, 2.5)
      local lock = mp.Lock()
      local c = mp.Condition{ lock = lock }
      c:acquire()
      eq(lock:locked(), true)
      c:release()
      local to, from = mp.Pipe{ duplex = false }
      eq(from:send("x"), true)
      eq(to:recv(), "x")
      eq(mp.Dict({ a = 1 }, { name = "d" }).a, 1)
      eq(mp.List({ 7 }, { name = "l" })[1], 7)
    ]]
  end)

  it("has its name in every process", function()
    for _, method in ipairs { "fork", "spawn" } do
      ok(([[
        mp.set_start_method "%s"
        local q = mp.Queue{ name = "jobs" }
        local p = P(function(q)
          assert(tostring(q):find("'jobs'"))
          q:put(mp.Lock{ name = "made in the child" })
        end, q)
        assert(tostring(q:get()):find("'made in the child'"))
        all{ p }
      ]]):format(method))
    end
  end)

  it("may have any bytes as its name, which are shown escaped", function()
    prints([[
'jobs é \\ \' \n \x00 \xff \xc2\x9b \x1b[31m'
''
]], [[
      local function name_of(name) return tostring(mp.Lock{ name = name }):match("'.*'") end
      print(name_of("jobs é \\ ' \n \0 \xff \xc2\x9b \27[31m"))
      print(name_of(""))
      local long = ("x"):rep(100000)
      assert(name_of(long) == "'" .. long .. "'")
    ]])
  end)

  it("keeps its name out of an object that is made later in its place", function()
    ok [[
      for i = 1, 100 do mp.Lock{ name = "old" } end
      collectgarbage()
      for i = 1, 200 do assert(not tostring(mp.Lock()):find("old")) end
    ]]
  end)

  it("takes no memory once it is gone", function()
    ok [[
      local function used() collectgarbage() collectgarbage() return mp.stats().arena.used end
      local function make() for i = 1, 100 do mp.Queue{ name = ("x"):rep(i * 10) } end end
      make()
      local before = used()
      for i = 1, 20 do make() end
      assert(used() <= before, used() - before)
    ]]
  end)
end)

describe("a table of fields", function()
  it("with a wrong field raises, and names the fields", function()
    ok [[
      raises("Queue: unknown field 'maxsiz' (maxsize, name expected)", mp.Queue, { maxsiz = 2 })
      raises("Lock: unknown field '1' (name expected)", mp.Lock, { 2 })
      raises("Array: unknown field 'length' (type, size, rows, cols, name expected)", mp.Array, { length = 2 })
      raises("Barrier: unknown field 'n' (parties, action, timeout, name expected)", mp.Barrier, { n = 2 })
      raises("List: unknown field 'x' (name expected)", mp.List, {}, { x = 1 })
      raises("Pool: unknown field 'x' (processes, initializer, initargs, maxtasksperchild or name expected)",
        mp.Pool, { x = 1 })
    ]]
  end)

  it("with a name that is no string raises", function()
    ok [[
      raises("Semaphore: field 'name': a string expected, got number", mp.Semaphore, { name = 3 })
      raises("Barrier: field 'name': a string expected, got table", mp.Barrier, { parties = 1, name = {} })
      raises("Dict: field 'name': a string expected, got boolean", mp.Dict, {}, { name = true })
      raises("Pool: field 'name': a string expected, got number", mp.Pool, { name = 1 })
    ]]
  end)

  it("cannot be anything else than a table", function()
    ok [[raises("bad argument #2 to 'Dict' (table expected, got string)", mp.Dict, {}, "d")]]
  end)
end)
