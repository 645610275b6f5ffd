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

  it("that leaves no room is named in the error", function()
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

describe("a limit of threads", function()
  local NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
  local reaches = NOBODY .. " test -x " .. support.quote(support.command)
  local can = support.shell(reaches .. " 2>/dev/null && echo yes"):match "yes"
  local only = can and it or function(name) pending(name .. ": no other user can reach the build") end

  -- The script is in a folder of this user: it is read from the input.
  local function as_nobody(code)
    for _, mode in ipairs { "command", "stock" } do
      local r = support.run(nil, { mode = mode, flags = { "-" }, stdin = "local mp = require 'mpengine' " .. code,
        under = "prlimit --nproc=1:1 " .. NOBODY })
      assert.equal(0, r.status, r.stdout .. r.stderr)
    end
  end

  only("is an error of co.offload, and of nothing else", function()
    as_nobody [[
      local co = mp.co
      local ok, why = pcall(co.offload, function() return 1 end)
      assert(not ok, why)
      assert(tostring(why):find("offload: cannot start a thread: Resource temporarily unavailable", 1, true), why)
      local t = co.spawn(function() mp.sleep(0.01) return pcall(co.offload, print) end)
      assert(select(2, t:get()):find "cannot start a thread")
      local q = mp.Queue() q:put(1) assert(q:get() == 1)]]
  end)

  only("keeps the reason why a process cannot be started, and names the limit", function()
    as_nobody [[
      local LIMIT = "Resource temporarily unavailable (ulimit -u, or the pids of a cgroup)"
      for _, method in ipairs(mp.get_all_start_methods()) do
        local p = mp.get_context(method).Process(print)
        local ok, why = pcall(p.start, p)
        assert(not ok and why:find(LIMIT, 1, true), method .. ": " .. tostring(why))
      end
      local ok, why = pcall(mp.Pool, 2)
      assert(not ok and tostring(why):find(LIMIT, 1, true), why)
      local ran, reason = mp.subprocess.run { "true" }
      assert(not ran and reason:find(LIMIT, 1, true), reason)
      local sent, problem = pcall(mp.Queue().put, mp.Queue(), io.stdout)
      assert(not sent and problem:find(LIMIT, 1, true), problem)]]
  end)

  it("of addresses or data too small for their stacks raises too, or gives smaller ones", function()
    if not has_addresses then return pending "the address sanitizer needs all addresses" end
    for _, limit in ipairs { "-d 6000", "-v 60000", "-v 30000" } do
      both([[
        local ok, why = pcall(mp.co.offload, function() return 7 end)
        if ok then eq(why, 7) else assert(tostring(why):find("offload: ", 1, true), why) end]],
        { before = "ulimit " .. limit })
    end
  end)
end)

describe("a limit of descriptors", function()
  -- take(): takes those that are left; the function that gives them back.
  local TAKE = [[
  local function take()
    local held = {}
    repeat
      local f = io.open "/dev/null"
      held[#held + 1] = f
    until not f
    return function() for _, f in ipairs(held) do f:close() end end
  end
  ]]

  for _, method in ipairs { "fork", "spawn", "forkserver" } do
    it("is named in the error with the call that needs one, by " .. method, function()
      both(TAKE .. ([[
        mp.set_start_method %q
        local give = take()
        local ran, why = mp.subprocess.run { "true" }
        eq(ran, nil) assert(why:find("Too many open files (ulimit -n)", 1, true), why)
        local ok, err = pcall(function() local p = P(print) p:join() end)
        assert(ok or tostring(err):find("Too many open files (ulimit -n)", 1, true), tostring(err))
        eq(select(2, (ok and "" or tostring(err)):gsub("script.lua:%%d+:", "")) <= 1, true) -- one place
        eq(mp.co.offload(function() return 7 end), 7)
        give()
        eq(mp.subprocess.run({ "echo", "x" }).stdout, "x\n")
        all { P(math.abs, 1) }]]):format(method), { before = "ulimit -n 40" })
    end)

    it("too low for a large pool lets it work, or is named when it begins, by " .. method, function()
      for _, n in ipairs { 14, 20, 40 } do
        both(([[
          mp.set_start_method %q
          local list = {}
          for i = 1, 200 do list[i] = i end
          local ok, err = pcall(function()
            local pool <close> = mp.Pool(100)
            eq(pool:map(function(x) mp.sleep(0.01) return x end, list, { chunksize = 1 }), list)
          end)
          assert(ok or tostring(err):find("Too many open files", 1, true), tostring(err))]]):format(method),
          { before = "ulimit -n " .. n })
      end
    end)
  end
end)

describe("a library that could not be opened for want of descriptors", function()
  it("is opened by the next call", function()
    both([[
      local held = {}
      repeat
        local f = io.open "/dev/null"
        held[#held + 1] = f
      until not f
      raises("Too many open files (ulimit -n)", mp.http.get, "http://127.0.0.1:1/")
      local options = { port = 0, handler = function() return 200, {}, "here" end }
      raises("Too many open files (ulimit -n)", mp.http.serve, options)
      for _, f in ipairs(held) do f:close() end
      local s = mp.http.serve(options)
      s:start()
      eq(mp.http.get("http://127.0.0.1:" .. s.port).body, "here")
      s:stop()]], { before = "ulimit -n 60" })
  end)
end)

-- A root with the command and the libraries that it needs, and nothing else, which cannot be written.
describe("a root that is read-only and almost empty", function()
  local UNDER = "unshare --mount sh -c 'mount --bind /mnt /mnt'"
  local can = support.shell(UNDER .. " 2>&1") == ""

  it("runs processes, pools, threads and servers, and names what it lacks", function()
    if not can then return pending "this user may not mount" end
    if not has_addresses then return pending "the address sanitizer reads /proc" end
    local dir = support.shell("mktemp -d"):gsub("\n", "")
    support.write_file(dir .. "/script.lua", [[
      local mp = require "mpengine"
      for _, method in ipairs(mp.get_all_start_methods()) do
        local p = mp.get_context(method).Process(print, method)
        p:start()
        p:join()
      end
      local pool <close> = mp.Pool(2)
      print(table.unpack(pool:map(math.abs, { -1, -2 })))
      print(mp.co.offload(function() return 7 end))
      local s = mp.server.StreamServer { port = 0, handler = function(c) c:send "served" end }
      s:start()
      print(#mp.dump() > 0)
      s:stop()
      local log = mp.get_logger()
      for _, f in ipairs {
        function() mp.SharedMemory { create = true, size = 10 } end,
        function() log:add_handler { file = "/log" } end,
        function() assert(mp.subprocess.run { "true" }) end,
      } do
        print((select(2, pcall(f)):gsub("^%S+:%d+: ", ""):gsub("'/mpengine.-'", "NAME")))
      end]])
    local text = support.shell(([[cd %s && mkdir bin && cp %s bin/mpengine &&
      for f in $(ldd bin/mpengine | grep -o '/[^ ]*'); do mkdir -p .$(dirname $f); cp -L $f .$f; done;
      unshare --mount sh -c 'mount --bind . . && cd "$PWD" && mount -o remount,ro,bind . &&
        exec %s chroot . /bin/mpengine /script.lua' 2>&1; rm -rf %s]])
      :format(dir, support.quote(support.command), support.limit, dir))
    assert.equal("fork\nspawn\nforkserver\n1\t2\n7\ntrue\n"
      .. "SharedMemory: cannot create NAME: No such file or directory (there is no /dev/shm)\n"
      .. "Logger:add_handler: /log: Read-only file system\n"
      .. "true: No such file or directory\n", text)
  end)
end)

describe("a full /dev/shm", function()
  local UNDER = [[unshare --mount sh -c 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"' sh]]
  local can = support.shell(UNDER .. " true 2>/dev/null && echo yes"):match "yes"
  local only = can and it or function(name) pending(name .. ": this user may not mount") end

  only("is an error of SharedMemory, and leaves no name behind", function()
    both([[
      raises("No space left on device (/dev/shm is full)", mp.SharedMemory,
        { name = "large", create = true, size = 1 << 20 })
      raises("No such file", mp.SharedMemory, { name = "large" })
      local m = mp.SharedMemory { name = "small", create = true, size = 1000 }
      m:write("text")
      eq(m:read(1, 4), "text")
      m:unlink()]], { under = UNDER })
  end)

  only("is an error of what uses memory that another program made", function()
    both([[
      os.execute "truncate -s 1M /dev/shm/sparse"
      local m = mp.SharedMemory { name = "sparse" }
      raises({ "SharedMemory:write", "/dev/shm is full" }, m.write, m, ("x"):rep(500000))
      raises({ "SharedMemory:read", "/dev/shm is full" }, m.read, m)
      m:write("abc")
      eq(m:read(1, 3), "abc")
      os.execute "truncate -s 0 /dev/shm/sparse"
      raises({ "SharedMemory:read", "was cut" }, m.read, m, 1, 10)]], { under = UNDER })
  end)

  it("and a limit of file sizes are distinguished", function()
    both([[raises("File too large (ulimit -f)", mp.SharedMemory, { name = "a-spec", create = true, size = 1 << 28 })]],
      { before = "ulimit -f 20000" })
  end)
end)

describe("other limits", function()
  for _, limit in ipairs { "-d 40000", "-s 256", "-s unlimited", "-l 0", "-c 0", "-n 40" } do
    it("such as ulimit " .. limit .. " leave a program that works", function()
      if limit:find "^-d" and not has_addresses then
        return pending "the address sanitizer needs all addresses"
      end
      both("work()", { before = "ulimit " .. limit })
    end)
  end

  it("such as no room for queued signals keep time limits of code that computes", function()
    both([[
      eq(table.pack(mp.co.with_timeout(0.1, function() while true do end end)), table.pack(nil, "timeout"))
      local p = P(function() return mp.co.with_timeout(0.1, function() while true do end end) end)
      all { p }]], { under = "prlimit --sigpending=0:0" })
  end)
end)
