local support = require "spec.support"

-- Programs under the limits of a shell. The shell of the specs is sh: ulimit -f counts 512 bytes there, -v 1024.

-- Puts, takes and starts things of all kinds; fill(n) puts n MiB on a queue.
local WORK = [[
local function work()
  local q, d = mp.Queue(), mp.Dict()
  q:put "text" d.x = 1
  eq(q:get(), "text") eq(d.x, 1)
  for _, method in ipairs(mp.get_all_start_methods()) do
    local p = mp.get_context(method).Process(q.put, q, method)
    p:start() p:join()
    eq(p.exitcode, 0) eq(q:get(10), method)
  end
  local pool <close> = mp.Pool(2)
  eq(pool:map(math.abs, { -1, -2 }), { 1, 2 })
end
local function fill(n)
  local q = mp.Queue()
  for _ = 1, n do q:put(("x"):rep(1 << 20)) end
end
]]

-- The address sanitizer reserves more addresses than any limit allows.
local has_addresses = not support.read_file("/proc/self/maps"):find("libasan", 1, true)

local function both(code, opts)
  for _, mode in ipairs { "command", "stock" } do
    local o = { mode = mode }
    for k, v in pairs(opts) do o[k] = v end
    support.ok(WORK .. code, o)
  end
end

describe("a limit of file sizes", function()
  for _, blocks in ipairs { 4000000, 200000, 20000, 8000 } do
    it(("of %d blocks leaves a program that works"):format(blocks), function()
      both("work() assert(mp.stats().arena.limit <= " .. blocks * 512 .. ")", { before = "ulimit -f " .. blocks })
    end)
  end

  it("ends in an error where shared memory does, not in a signal", function()
    both([[
      raises("shared memory exhausted", fill, 40)
      raises("shared memory exhausted", mp.Array, "d", 5000000)
      work()]], { before = "ulimit -f 64000" })
  end)

  it("that is set later changes nothing", function()
    both([[
      assert(os.execute("command -v prlimit >/dev/null && prlimit --fsize=0:0 --pid " .. mp.current_process().pid))
      fill(8)]], {})
  end)

  it("that leaves no room is named", function()
    for _, mode in ipairs { "command", "stock" } do
      support.ends(1, { "ulimit -f", "shared memory" }, "require 'mpengine' print(1)",
        { mode = mode, before = "ulimit -f 100" })
    end
  end)
end)

describe("a limit of addresses", function()
  if not has_addresses then return pending "the address sanitizer needs all addresses" end

  for _, kib in ipairs { 1400000, 300000, 60000 } do
    it(("of %d KiB leaves a program that works"):format(kib), function()
      both("work() assert(mp.stats().arena.limit <= " .. kib * 1024 .. ")", { before = "ulimit -v " .. kib })
    end)
  end

  it("leaves the memory that MPENGINE_SHM_LIMIT asks for, when there is room", function()
    both("work() eq(mp.stats().arena.limit, 16 << 20) fill(8) raises('exhausted', fill, 16)",
      { before = "ulimit -v 200000", env = { MPENGINE_SHM_LIMIT = "16M" } })
  end)

  it("leaves at least as much for Lua as for shared memory", function()
    both("local s = ('x'):rep(60 << 20) eq(#s, 60 << 20) fill(10)", { before = "ulimit -v 400000" })
  end)
end)

describe("other limits", function()
  for _, limit in ipairs { "-d 40000", "-s 256", "-s unlimited", "-l 0", "-c 0", "-n 40" } do
    it("such as ulimit " .. limit .. " leave a program that works", function()
      both("work()", { before = "ulimit " .. limit })
    end)
  end
end)
