local support = require "spec.support"
local misuse, ok = support.misuse, support.ok
local mp = require "mpengine"

local NAN = 0 / 0
local thread = coroutine.create(print)

-- Every call here is a mistake of the script: it raises, and the message names
-- the call, the argument and what was expected.
describe("a wrong argument", function()
  local TIMEOUT = { "timeout" }

  local CASES = {
    { "Process without a function as its target", { "Process", "target", "function" },
      function() mp.Process{ target = 1 } end },
    { "Process of a number", { "Process", { "target", "#1" } }, function() mp.Process(1) end },
    { "Process with args that are no list", { "Process", "args", "table" },
      function() mp.Process{ target = print, args = 5 } end },
    { "Process with an unknown field", { "Process", "tagret" }, function() mp.Process{ tagret = print } end },
    { "Process with a name that is no string", { "Process", "name" },
      function() mp.Process{ target = print, name = {} } end },
    { "Process with daemon that is no boolean", { "Process", "daemon" },
      function() mp.Process{ target = print, daemon = "yes" } end },
    { "Process joined before start", { "join", "start" }, function() mp.Process(print):join() end },
    { "Process terminated before start", { "terminate", "start" }, function() mp.Process(print):terminate() end },
    { "Process killed before start", { "kill", "start" }, function() mp.Process(print):kill() end },
    { "Process method without a process", { "start" }, function() mp.Process(print).start({}) end },

    { "Array of an unknown type", { "Array", { "type", "code" }, "z" }, function() mp.Array("z", 3) end },
    { "Array of two type codes", { "Array", { "type", "code" } }, function() mp.Array("ii", 3) end },
    { "Array without a type", { "Array", { "type", "code" } }, function() mp.Array() end },
    { "Array of a negative size", { "Array", { "size", "#2" }, "-1" }, function() mp.Array("i", -1) end },
    { "Array of a size with a fraction", { "Array", { "size", "#2" } }, function() mp.Array("i", 1.5) end },
    { "Array of a NaN size", { "Array", { "size", "#2" } }, function() mp.Array("i", NAN) end },
    { "Array of nothing", { "Array" }, function() mp.Array("i") end },
    { "Array of a boolean", { "Array" }, function() mp.Array("i", true) end },
    { "Array of ints from a string", { "Array" }, function() mp.Array("i", "text") end },
    { "Array from a list with a wrong value names its index", { "Array", "2", "300" },
      function() mp.Array("b", { 1, 300 }) end },
    { "Array too large for memory", { "shared memory exhausted" }, function() mp.Array("d", 1 << 50) end },
    { "Array of the largest integer", { "Array" }, function() mp.Array("d", math.maxinteger) end },
    { "Array element that does not fit", { "Array", "300", "-128" }, function() mp.Array("b", 1)[1] = 300 end },
    { "Array element with a fraction", { "Array", "1.5" }, function() mp.Array("i", 1)[1] = 1.5 end },
    { "Array element outside", { "Array", "4", "3" }, function() mp.Array("i", 3)[4] = 1 end },
    { "Array add to no element", { "add", { "index", "range" } }, function() mp.Array("i", 3):add(4, 1) end },
    { "Array add of a string", { "add" }, function() mp.Array("i", 3):add(1, "x") end },
    { "Array exchange of no element", { "compare_exchange" },
      function() mp.Array("i", 3):compare_exchange(0, 1, 2) end },
    { "Array exchange for what does not fit", { "compare_exchange" },
      function() mp.Array("b", 3):compare_exchange(1, 0, 300) end },
    { "Array fill with what does not fit", { "fill", "300" }, function() mp.Array("b", 3):fill(300) end },
    { "Array exchange without values", { "compare_exchange", "expected", "nil" },
      function() mp.Array("i", 3):compare_exchange(1) end },
    { "Array part from a string", { "totable", "i must be an integer", "string" },
      function() mp.Array("i", 3):totable("1") end },
    { "Array filled with nothing", { "fill", "no value" }, function() mp.Array("i", 3):fill() end },
    { "Array set at a place outside", { "set", "at" }, function() mp.Array("i", 3):set({ 1 }, 5) end },
    { "Array set with a hole", { "set", "element 2", "nil" }, function() mp.Array("i", 3):set{ 1, nil, 3 } end },
    { "Array taken for another userdata", { "Array", "FILE*" },
      function() getmetatable(mp.Array("i", 1)).__index(io.stdout, 1) end },
    { "Value of an unknown type", { "Value", { "type", "code" } }, function() mp.Value("?", 1) end },
    { "Value that does not fit", { "Value", "70000" }, function() mp.Value("h", 70000) end },

    { "Queue of a negative size", { "Queue", { "maxsize", "#1" }, "-1" }, function() mp.Queue(-1) end },
    { "Queue of a size with a fraction", { "Queue", { "maxsize", "#1" } }, function() mp.Queue(1.5) end },
    { "Queue of a string", { "Queue", { "maxsize", "#1" } }, function() mp.Queue("large") end },
    { "Queue of NaN", { "Queue", { "maxsize", "#1" } }, function() mp.Queue(NAN) end },
    { "put of a coroutine", { "put", "cannot send a coroutine" }, function() mp.Queue():put(thread) end },
    { "put of a closed file", { "put", "item", "closed file" }, function()
      local f = io.tmpfile()
      f:close()
      mp.Queue():put(f)
    end },
    { "put deep inside names the path", { ".conn", "cannot send a coroutine" },
      function() mp.Queue():put{ conn = thread } end },
    { "put with a dot", { "put" }, function() mp.Queue().put(1) end },
    { "get with a negative timeout", { "get", TIMEOUT }, function() mp.Queue():get(-1) end },
    { "put with a NaN timeout", { "put", TIMEOUT }, function() mp.Queue():put(1, NAN) end },
    { "get with a string for a timeout", { "get", TIMEOUT }, function() mp.Queue():get("soon") end },

    { "Dict of a number", { "Dict" }, function() mp.Dict(5) end },
    { "Dict with a table as a key", { "Dict", "key", "table" }, function() mp.Dict()[{}] = 1 end },
    { "Dict with NaN as a key", { "Dict", "key", "nan" }, function() mp.Dict()[NAN] = 1 end },
    { "Dict with nil as a key", { "Dict", "key", "nil" }, function() mp.Dict():set(nil, 1) end },
    { "Dict with a function as a key", { "Dict", "key", "function" }, function() mp.Dict()[print] = 1 end },
    { "Dict value that cannot be sent", { "cannot send a coroutine" }, function() mp.Dict().a = thread end },
    { "Dict method assigned by name", { ':set("keys"' }, function() mp.Dict().keys = 1 end },
    { "Dict modify without a function", { "modify", "function" }, function() mp.Dict():modify("a", 5) end },
    { "Dict update of a number", { "update", "table" }, function() mp.Dict():update(5) end },
    { "Dict incr of text", { "incr", "number" }, function() mp.Dict{ a = "x" }:incr("a") end },

    { "Lock released when it is free", { "release", "Lock" }, function() mp.Lock():release() end },
    { "RLock released when it is free", { "release", "RLock" }, function() mp.RLock():release() end },
    { "Lock acquired with a negative timeout", { "acquire", TIMEOUT }, function() mp.Lock():acquire(-0.5) end },
    { "Lock acquired with a boolean", { "acquire", TIMEOUT }, function() mp.Lock():acquire(false) end },
    { "Lock with something that is no function", { "with", "function" }, function() mp.Lock():with(5) end },
    { "Lock method on something else", { "acquire", "Lock" }, function() mp.Lock().acquire(mp.Queue()) end },
    { "Semaphore of a negative number", { "Semaphore", "-1" }, function() mp.Semaphore(-1) end },
    { "Semaphore of a fraction", { "Semaphore" }, function() mp.Semaphore(1.5) end },
    { "Semaphore of text", { "Semaphore" }, function() mp.Semaphore("x") end },
    { "Event waited for with NaN", { "wait", TIMEOUT }, function() mp.Event():wait(NAN) end },
    { "Event waited for with a negative timeout", { "wait", TIMEOUT }, function() mp.Event():wait(-1) end },
    { "Condition on a number", { "Condition", "lock" }, function() mp.Condition(5) end },
    { "Condition waited for without its lock", { "wait", "Condition" }, function() mp.Condition():wait() end },
    { "Condition notified without its lock", { "notify", "Condition" }, function() mp.Condition():notify() end },
    { "Condition notified for a negative number", { "notify" },
      function() local c = mp.Condition() c:with(function() c:notify(-1) end) end },
    { "Condition notified for a fraction", { "notify", "number of waiters", "1.5" },
      function() local c = mp.Condition() c:with(function() c:notify(1.5) end) end },
    { "Condition released without its lock", { "release", "not held" }, function() mp.Condition():release() end },
    { "Condition waited for by wait_for without its lock", { "wait_for", "not held" },
      function() mp.Condition():wait_for(print) end },
    { "Barrier with an action that cannot be sent", { "Barrier", "action", "cannot send" },
      function() mp.Barrier(1, coroutine.wrap(print)) end },
    { "Semaphore acquired more often than can be counted", { "acquire", "at most 65535 permits" }, function()
      local s = mp.Semaphore(70000)
      for _ = 1, 65536 do s:acquire() end
    end },
    { "Condition with no predicate", { "wait_for", { "function", "pred" } },
      function() local c = mp.Condition() c:with(function() c:wait_for(5) end) end },

    { "Pool of no workers", { "Pool", "processes" }, function() mp.Pool(0) end },
    { "Pool of minus one", { "Pool", "processes", "-1" }, function() mp.Pool(-1) end },
    { "Pool of half a worker", { "Pool", "processes" }, function() mp.Pool{ processes = 1.5 } end },
    { "Pool of text", { "Pool", { "processes", "#1" } }, function() mp.Pool("three") end },
    { "Pool with an unknown field", { "Pool", "proceses" }, function() mp.Pool{ proceses = 3 } end },
    { "Pool with an initializer that is no function", { "Pool", "initializer" },
      function() mp.Pool{ processes = 1, initializer = 5 } end },
    { "Pool with maxtasksperchild of 0", { "Pool", "maxtasksperchild" },
      function() mp.Pool{ processes = 1, maxtasksperchild = 0 } end },

    { "get_context of no method", { "get_context", "fork" }, function() mp.get_context("teleport") end },
    { "a codec of no bytes", { "decode", "string" }, function() mp.codec.decode(5) end },
  }

  for _, case in ipairs(CASES) do
    it("is refused: " .. case[1], function() misuse(case[2], case[3]) end)
  end

  it("is refused by a pool, which stays usable", function()
    ok[[
      local pool <close> = mp.Pool(1)
      raises({ "apply", "function" }, pool.apply, pool, 5)
      raises({ "apply_async", "function" }, pool.apply_async, pool)
      raises({ "map", "function" }, pool.map, pool, {}, {})
      raises({ "map", "table" }, pool.map, pool, print, 5)
      raises({ "apply", "args" }, pool.apply, pool, print, 5)
      raises({ "map", "chunksize" }, pool.map, pool, print, { 1 }, { chunksize = 0 })
      raises({ "map", "chunksize" }, pool.map, pool, print, { 1 }, { chunksize = -1 })
      raises({ "join", "close" }, pool.join, pool)
      eq(pool:apply(function() return 1 end), 1)]]
  end)

  it("is refused by BoundedSemaphore, Barrier, Pipe, List #later", function()
    misuse({ "BoundedSemaphore", "release" }, function() mp.BoundedSemaphore(1):release() end)
    misuse({ "Barrier", "parties" }, mp.Barrier, 0)
    misuse({ "Barrier", "parties" }, mp.Barrier, -1)
    misuse({ "Barrier", "parties" }, mp.Barrier)
    misuse({ "Barrier", "action" }, mp.Barrier, 2, 5)
    misuse({ "Barrier", "timeout" }, mp.Barrier, 2, nil, -1)
    misuse({ "Pipe" }, mp.Pipe, 5)
    misuse({ "List" }, mp.List, 5)
    misuse({ "task_done" }, function() mp.JoinableQueue():task_done() end)
    misuse({ "SharedMemory" }, mp.SharedMemory, { name = "/mpengine-spec-absent" })
  end)

  it("points at the line of the script", function()
    for _, code in ipairs{ "mp.Queue(-1)", "mp.Lock():release()", "mp.Array('i', 1)[1] = 1.5",
      "mp.Process{ target = 1 }", "mp.Queue():put(coroutine.create(print))", "mp.Dict()[{}] = 1",
      "mp.Pool(0)", "mp.Queue():get(-1)", "mp.Condition():release()", "mp.Condition():wait_for(print)",
      "mp.Barrier(1, coroutine.wrap(print))" } do
      local r = support.run("\n" .. code)
      assert.equal(1, r.status)
      assert.truthy(r.stderr:find("script.lua:2:", 1, true), r.stderr)
      assert.truthy(r.stderr:find("stack traceback", 1, true), r.stderr)
    end
  end)

  it("changes nothing", function()
    ok[[
      local q, d, a = mp.Queue(2), mp.Dict{ x = 1 }, mp.Array("b", { 1, 2, 3 })
      for _ = 1, 50 do
        pcall(q.put, q, { ("x"):rep(5000), coroutine.create(print) })
        pcall(d.set, d, "x", { ("x"):rep(5000), coroutine.create(print) })
        pcall(d.update, d, { y = 1, z = coroutine.create(print) })
        pcall(a.set, a, { 5, 6, 700 })
        pcall(mp.Array, "d", 1 << 50)
        pcall(mp.Array, "b", { 1, 2, 1000 })
        pcall(mp.Process, 5)
      end
      eq(q:qsize(), 0)
      eq(d:copy(), { x = 1 })
      eq(a:totable(), { 1, 2, 3 })
      eq(#mp.active_children(), 0)
      q:put(1) q:put(2)
      eq(q:full(), true)]]
  end)
end)

describe("a name that does not exist", function()
  it("is nil in the library and in the objects", function()
    assert.is_nil(mp.Quee)
    assert.is_nil(mp.Lock().acquier)
    assert.is_nil(mp.Queue().putt)
  end)
end)

describe("arguments of every kind", function()
  it("give no such error of arrays of every sort", function()
    ok([==[
      local structs = mp.Array({ { "v", "i", 3 }, { "at", { { "x", "d" } } } }, 2)
      local all = "totable set fill string set_string add compare_exchange sum dot scale axpy view field reshape row "
      local objects = {
        { "matrix", mp.Array{ type = "d", rows = 2, cols = 3 }, all .. "col get shape" },
        { "view", mp.Array("f", 9):view(8, 2, -3), all .. "guard" },
        { "structs", structs, all .. "guard" },
        { "StructRef", structs[1], "get set" },
        { "FieldRef", structs[1].v, "totable set" },
        { "Struct", mp.Struct{ { "x", "d" } }, "fields" },
        { "mp", mp, "Struct", fn = true },
      }
      eq(require("spec.support.misuse").faults(objects, function() mp.co.sleep(0) end), {})
      os.exit(0)
    ]==])
  end)

  it("give no error of the library's own code: it names the call and has a line of the script", function()
    ok([==[
      local co = mp.co
      local misuse = require "spec.support.misuse"
      local a <close> = mp.Pipe()
      local objects = {
        { "mp", mp, [=[Lock RLock Queue SimpleQueue JoinableQueue Array RawArray Value RawValue Dict List Semaphore
          BoundedSemaphore Event Condition Barrier Process wait get_context Cache RateLimiter Supervisor name register
          retry progress Pipe Listener Client get_logger signal]=], fn = true },
        { "Queue", mp.Queue(5), "put get put_nowait get_nowait qsize empty full iter" },
        { "JoinableQueue", mp.JoinableQueue(5), "put get task_done join" },
        { "Pipe", a, "send recv poll send_bytes recv_bytes" },
        { "Array", mp.Array("i", 5),
          "totable set fill string set_string add compare_exchange get_lock guard sum min max dot scale axpy view" },
        { "Value", mp.Value("i", 5), "add compare_exchange get_lock guard" },
        { "Dict", mp.Dict{ a = 1 },
          "get set has setdefault pop popitem keys values items update clear copy incr modify" },
        { "List", mp.List{ 1 }, "append insert pop remove extend index sort reverse clear copy" },
        { "Lock", mp.Lock(), "acquire release locked guard with" },
        { "RLock", mp.RLock(), "acquire release locked guard with" },
        { "Semaphore", mp.Semaphore(1), "acquire release get_value guard with" },
        { "Event", mp.Event(), "set clear is_set wait" },
        { "Condition", mp.Condition(), "acquire release wait wait_for notify notify_all guard with" },
        { "Barrier", mp.Barrier(2), "wait reset abort" },
        { "Pool", mp.Pool(1), "apply apply_async map map_async starmap starmap_async imap imap_unordered join" },
        { "Cache", mp.Cache{ size = "1M" }, "get set add replace delete touch ttl incr fetch keys clear stats" },
        { "RateLimiter", mp.RateLimiter{ rate = 1000 }, "acquire try" },
        { "co", co, [=[spawn spawn_later joinall wait iwait killall current with_timeout scope Event AsyncResult Queue
          Lock RLock Semaphore BoundedSemaphore Condition Group Pool Local every wait_fd]=], fn = true },
        { "co.Queue", co.Queue(3), "put get put_nowait get_nowait qsize empty full iter close" },
        { "co.Event", co.Event(), "set clear is_set wait" },
        { "co.AsyncResult", co.AsyncResult(), "set set_error get wait ready" },
        { "co.Group", co.Group(), "spawn add join kill" },
        { "co.Pool", co.Pool(2), "spawn add join map apply apply_async imap imap_unordered" },
        { "co.Lock", co.Lock(), "acquire release locked guard with" },
        { "co.Condition", co.Condition(), "acquire release wait wait_for notify notify_all" },
        { "task", co.spawn(function() end), "join get kill ready successful link" },
        { "http", mp.http, "get post put request Session serve", fn = true },
        { "subprocess", mp.subprocess, "run Popen", fn = true },
        { "codec", mp.codec, "encode decode", fn = true },
        { "server", mp.server, "StreamServer", fn = true },
      }
      local function turns() for _ = 1, 5 do co.sleep(0) end end
      eq(misuse.faults(objects, turns), {})
      os.exit(0) -- tasks that wait for what never comes
    ]==])
  end)
end)
