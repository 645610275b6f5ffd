-- The code of functions: sent whole where bytes may leave the program, otherwise sent once.
local mp = require "mpengine"
local core = require "mpengine.core"
local support = require "spec.support"

local encode, decode = mp.codec.encode, mp.codec.decode

local function sent(...) return core.encode_args("spec", 0, ...) end

local function blobs()
  local n = 0
  for _, o in ipairs(mp.stats().objects) do
    if o.kind == "Blob" then n = n + 1 end
  end
  return n
end

-- A function of about that many bytes of code, which adds its argument to an upvalue.
local function long_function(bytes)
  local lines = { "local n = ... return function(x) local t = {} n = n + x" }
  for i = 1, bytes // 16 do lines[#lines + 1] = ("t[%d] = x * %d"):format(i, i) end
  lines[#lines + 1] = "return n, #t end"
  return load(table.concat(lines, "\n"), "=long.lua")(100)
end

-- Each of the ways there is of getting a value back from the program: way(v) -> a copy.
local ways = {}

function ways.queue(v)
  local q = mp.Queue()
  q:put(v)
  return q:get()
end

function ways.pipe(v)
  local a, b = mp.Pipe()
  b:send(v)
  return a:recv()
end

function ways.dict(v) return mp.Dict{ k = v }.k end
function ways.list(v) return mp.List{ v }[1] end
function ways.args(v) return (core.decode_args(sent(v))) end
function ways.table(v) return ways.queue{ { v, 1 } }[1][1] end

describe("codec: code in the program", function()
  it("is short once a function or one like it was sent", function()
    local f = long_function(4000)
    assert.is_true(#string.dump(f) > 3000)
    sent(f)
    assert.is_true(#sent(f) < 40)
    assert.is_true(#sent{ f, f } < 60)
    for i = 1, 3 do assert.is_true(#sent(function() return i, f end) < 60) end
  end)

  it("is sent whole in bytes that may leave it, whatever was sent before", function()
    local f = long_function(4000)
    local before = #encode(f)
    sent(f)
    assert.are.equal(before, #encode(f))
    assert.is_true(before > 3000)
    assert.are.equal(101, (decode(encode(f), { functions = true })(1)))
  end)

  for name, way in pairs(ways) do
    it("gives new closures with upvalues of their own each time, through a " .. name, function()
      local f = long_function(2000)
      local _, t = f(0)
      for i = 1, 5 do
        local g = way(f)
        assert.are_not.equal(f, g)
        assert.are.same({ 100 + i, t }, { g(i) })
        assert.are.same({ 110 + i, t }, { g(10) })
      end
      assert.are.equal(100, (f(0)))
    end)
  end

  it("keeps upvalues shared, and recursion, each time", function()
    local n = 0
    local function inc() n = n + 1 end
    local function get() return n end
    local function fact(i) return i <= 1 and 1 or i * fact(i - 1) end
    for _ = 1, 5 do
      local t = ways.queue{ inc, get, { fact } }
      t[1]()
      t[1]()
      assert.are.equal(2, t[2]())
      assert.are.equal(120, t[3][1](5))
    end
    assert.are.equal(0, n)
  end)

  it("keeps names and lines, parameters and varargs, each time", function()
    local function f(argument, ...) local sum = argument + select("#", ...) error("at " .. sum) end
    local want = debug.getinfo(f, "Su")
    for _ = 1, 5 do
      local g = ways.queue(f)
      local got = debug.getinfo(g, "Su")
      for _, key in ipairs{ "source", "short_src", "what", "linedefined", "lastlinedefined", "nups", "nparams",
        "isvararg" } do assert.are.equal(want[key], got[key]) end
      assert.are.equal("argument", debug.getlocal(g, 1))
      local ok, err = pcall(g, 1, 2, 3)
      assert.is_false(ok)
      assert.are.equal(select(2, pcall(f, 1, 2, 3)), err)
    end
  end)

  it("may be anything Lua compiles", function()
    local names, values = {}, {}
    for i = 1, 150 do names[i], values[i] = "u" .. i, i end
    local function with_upvalues(n)
      local list = table.concat(names, ",", 1, n)
      local code = ("local %s = %s return function() return %s end"):format(list, table.concat(values, ",", 1, n), list)
      return load(code)()
    end
    local inner = load[[local a <const>, b = 7, 8 return function(...) local t = { ... } return function()
      b = b + a for _, v in ipairs(t) do b = b + v end return b end end]]
    local functions = {
      function() end, load"return ...", with_upvalues(1), with_upvalues(99), with_upvalues(150),
      load(string.dump(load"local a = 1 return a + ...", true)), load("return " .. ("%q"):format(("x"):rep(5000))),
      load"return 1.5, 2^53, -0.0, 1/0, nil, true, false, 'short', math.mininteger",
      load"goto l do local x <close> = nil end ::l:: return 1 < 2, _ENV", function(...) return (...) end,
      function(...) return inner()(...)() end,
    }
    for i, f in ipairs(functions) do
      local want = table.pack(f(3))
      for _ = 1, 4 do
        assert.are.same(want, table.pack(ways.queue(f)(3)), "function " .. i)
      end
    end
  end)

  it("runs under a counting debug hook, which sees nothing of it", function()
    local f, lines, bytes = long_function(500), {}, nil
    local sethook, getinfo, decode_args = debug.sethook, debug.getinfo, core.decode_args
    for _ = 1, 4 do bytes = sent(f) decode_args(bytes) end
    sethook(function(_, line)
      local source = getinfo(2, "S").source
      if not source:find("codec_code_spec", 1, true) then lines[#lines + 1] = source .. ":" .. line end
    end, "l")
    local g = decode_args(bytes)
    sethook()
    assert.are.equal(101, (g(1)))
    assert.are.same({}, lines)
  end)

  it("is refused where functions were not asked for, and is not a value by itself", function()
    local bytes = sent(long_function(500))
    local handle = bytes:match("\xfc........")
    for _, s in ipairs{ bytes, handle } do
      local ok, err = pcall(decode, s)
      assert.is_false(ok)
      assert.is_truthy(err:find("cannot decode", 1, true), err)
    end
    local ok, err = pcall(decode, handle, { functions = true })
    assert.is_false(ok)
    assert.is_truthy(err:find("damaged", 1, true), err)
    for _, s in ipairs{ encode(mp.Lock()), "\xfc\0\0\0\0\0\0\0\0" } do
      ok, err = pcall(decode, "\xf2\0" .. s, { functions = true })
      assert.is_false(ok)
      assert.is_truthy(err:find("damaged", 1, true), err)
    end
    ok, err = pcall(decode, "\xf2\0\xfc\0\0\1\0\0\0\0\x10", { functions = true })
    assert.is_false(ok)
    assert.is_truthy(err:find("no longer exists", 1, true), err)
  end)

  it("is freed when no process can need it, and stays while one can", function()
    support.ok[[
      local function blobs()
        local n = 0
        for _, o in ipairs(mp.stats().objects) do n = n + (o.kind == "Blob" and 1 or 0) end
        return n
      end
      local q, d = mp.Queue(), mp.Dict()
      d.kept = function() return "kept" end
      local used
      for i = 1, 30000 do
        q:put(load("return " .. i .. ", " .. ("%q"):format(("x"):rep(i % 500))))
        eq(q:get()(), i)
        if i == 10000 then
          collectgarbage()
          used = mp.stats().arena.used
        end
      end
      collectgarbage()
      collectgarbage()
      assert(blobs() < 3000, blobs())
      assert(mp.stats().arena.used < used * 2 + 100000, mp.stats().arena.used .. " after " .. used)
      eq(d.kept(), "kept")]]
  end)

  it("outlives its sender", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      support.ok(([[
        mp.set_start_method(%q)
        local q = mp.Queue()
        local p = P(function(n)
          q:put(function(x) n = n + x return n end)
          q:put(function(x) n = n - x return n end)
        end, 10)
        all{ p }
        for i = 1, 20 do mp.Queue():put(load("return " .. i)) end
        collectgarbage()
        local add, sub = q:get(), q:get()
        eq(add(5), 15)
        eq(add(5), 20)
        eq(sub(5), 5)]]):format(method))
    end
  end)

  it("reaches many processes, again and again, under each start method", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      support.ok(([[
        mp.set_start_method(%q)
        local work, done, d = mp.Queue(), mp.Queue(), mp.Dict()
        local list = {}
        d.f = function(x) return x + 1000 end
        for i = 1, 3 do
          list[i] = P(function()
            for job in work:iter() do done:put(job() + d.f(0)) end
          end)
        end
        local sum = 0
        for i = 1, 300 do
          work:put(function() return i end)
          sum = sum + i + 1000
        end
        work:close()
        for i = 1, 300 do sum = sum - done:get() end
        eq(sum, 0)
        all(list)]]):format(method))
    end
  end)

  it("is sent whole when shared memory is full", function()
    support.ok([[
      local core = require "mpengine.core"
      local f = load("local n = 5 return function() return n, '" .. ("x"):rep(200000) .. "' end")()
      local kept, size = {}, 1 << 20
      while size > 64 do
        local ok, a = pcall(mp.RawArray, "b", size)
        if ok then kept[#kept + 1] = a else size = size // 2 end
      end
      local bytes = core.encode_args("spec", 0, f)
      assert(#bytes > 200000)
      eq(core.decode_args(bytes)(), 5)
      kept = nil
      collectgarbage()
      assert(#core.encode_args("spec", 0, f) < 100)
    ]], { env = { MPENGINE_SHM_LIMIT = "4M" } })
  end)

  it("is usable after a fork, in both processes", function()
    support.ok[[
      local f = function(x) return x * 2 end
      local q, back = mp.Queue(), mp.Queue()
      q:put(f)
      q:get()
      local p = P(function()
        back:put(f)
        for _ = 1, 5 do back:put(q:get()(21)) end
      end)
      for _ = 1, 5 do q:put(f) end
      eq(back:get()(4), 8)
      for _ = 1, 5 do eq(back:get(), 42) end
      all{ p }]]
  end)

  it("is kept, like all objects, while a put waits for room", function()
    support.ok[[
      local full, other = mp.Queue(1), mp.Queue()
      full:put(1)
      local function values()
        local n = 0
        return { function() n = n + 1 return n end, mp.Lock(), { mp.Dict{ k = 5 } } }
      end
      local t = values()
      local putting = mp.co.spawn(function() return full:put(t) end)
      mp.sleep(0)
      t[1], t[2], t[3] = nil, nil, nil
      collectgarbage()
      collectgarbage()
      for i = 1, 500 do -- lets the sweep run, and fills the cache of code
        other:put(mp.Lock())
        other:get()
        other:put(load("return '" .. ("x"):rep(3000) .. i .. "'"))
        other:get()
        if i % 50 == 0 then collectgarbage() end
      end
      eq(full:get(), 1)
      eq(putting:get(), true)
      local got = full:get()
      eq(got[1](), 1)
      eq(got[2]:acquire(0), true)
      eq(got[3][1].k, 5)]]
  end)

  it("costs no blob when it stays in the process", function()
    local before = blobs()
    encode(long_function(777))
    assert.are.equal(before, blobs())
  end)
end)
