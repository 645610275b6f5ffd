local support = require "spec.support"

-- Programs without something of the system: /proc, their own file, system calls that a filter refuses.
local METHODS = { "fork", "spawn", "forkserver" }
local ERRNOS = { command = 1, stock = 38 } -- EPERM, ENOSYS: a filter says either

local function quietly(command)
  return support.shell(command .. " >/dev/null 2>&1 && echo yes"):match "yes" ~= nil
end

local function both(code, opts)
  for _, mode in ipairs { "command", "stock" } do
    local o = { mode = mode }
    for k, v in pairs(opts) do o[k] = v end
    support.ok(code, o)
  end
end

-- check(): children, daemons and pools by all methods, all that waits for their ends.
local CHECK = [[
local function check(method)
  mp.set_start_method(method)
  local p = P(os.exit, 3)
  eq(p:join(10), true) eq(p.exitcode, 3)
  local q = mp.Queue()
  local sleeper = P(function() q:put "here" mp.sleep(20) end)
  eq(q:get(10), "here")
  eq(table.pack(sleeper:join(0.05)), table.pack(nil, "timeout"))
  eq(mp.wait({ sleeper }, 0.05), {})
  sleeper:kill()
  eq(mp.wait({ sleeper, q }, 10), { sleeper })
  eq(sleeper.exitcode, -9)
  local tasks = {}
  for i = 1, 4 do tasks[i] = mp.co.spawn(function() local c = P(os.exit, i) c:join() return c.exitcode end) end
  for i = 1, 4 do eq(tasks[i]:get(10), i) end
  local pool <close> = mp.Pool(2)
  eq(pool:map(math.abs, { -1, -2, -3 }), { 1, 2, 3 })
  local ok, err = pcall(pool.apply, pool, os.exit, { 5 })
  eq(ok, false) eq(err.exitcode, 5)
  eq(pool:apply(math.abs, { -4 }), 4)
end
]]

describe("without /proc", function()
  local UNDER = [[unshare --mount sh -c 'mount -t tmpfs none /proc && exec "$@"' sh]]
  local only = quietly(UNDER .. " true") and it or function(name) pending(name .. ": this user may not mount") end

  for _, method in ipairs(METHODS) do
    only("children, daemons and pools start by " .. method, function()
      both(CHECK .. ("check %q"):format(method), { under = UNDER })
    end)

    only("daemons by " .. method .. " end with the one that started them", function()
      both(([[
        mp.set_start_method %q
        local ready, locks = mp.Queue(), { mp.Lock(), mp.Lock(), mp.Lock() }
        local parent = P(function()
          for i = 1, 3 do
            local hold = function(lock) lock:acquire() ready:put(i) mp.sleep(60) end
            mp.Process { target = hold, args = { locks[i] }, daemon = true }:start()
          end
          mp.sleep(60)
        end)
        for _ = 1, 3 do assert(ready:get(10)) end
        parent:kill()
        eq(parent:join(10), true)
        for _, lock in ipairs(locks) do eq(table.pack(lock:acquire(10)), table.pack(true, "owner_died")) end]])
        :format(method), { under = UNDER })
    end)
  end
end)

describe("a program whose file", function()
  local function in_copy(change, code)
    local dir = support.shell("mktemp -d"):match "%S+"
    support.shell(("cp %s %s/mpengine && cp /bin/false %s/other"):format(support.quote(support.command), dir, dir))
    local r = support.run(CHECK .. ("os.execute %q "):format(change:gsub("DIR", dir)) .. code,
      { mode = "command", under = ("sh -c 'shift; exec %s/mpengine \"$@\"' sh"):format(dir) })
    support.shell("rm -rf " .. dir)
    assert.equal(0, r.status, r.stdout .. r.stderr)
  end

  for _, method in ipairs(METHODS) do
    it("was removed since starts children by " .. method, function()
      in_copy("rm DIR/mpengine", ("check %q"):format(method))
    end)

    it("was replaced since starts children by " .. method .. ", of the program that runs", function()
      in_copy("mv DIR/other DIR/mpengine", ("check %q"):format(method))
    end)
  end

  it("was removed since has grandchildren", function()
    in_copy("rm DIR/mpengine", [[
      mp.set_start_method "spawn"
      local p = P(function()
        local q = require("mpengine").Process(os.exit, 4)
        q:start()
        q:join()
        os.exit(q.exitcode)
      end)
      p:join(10)
      eq(p.exitcode, 4)]])
  end)
end)

describe("without libcrypto", function()
  local paths = support.shell "ldconfig -p | sed -n 's/.*libcrypto\\.so\\.[0-9.]* .*=> //p'"
  local hide = {}
  for path in paths:gmatch "%S+" do hide[#hide + 1] = ("mount --bind /dev/null $(readlink -f %s)"):format(path) end
  hide[#hide + 1] = [[exec "$@"]]
  local under = ("unshare --mount sh -c '%s' sh"):format(table.concat(hide, " && "))
  local only = quietly(under .. " true") and it or function(name) pending(name .. ": this user may not mount") end

  only("a program runs, and Listener and Client say what they need", function()
    both([[
      local key = { authkey = "x" }
      raises({ "libcrypto is needed for authentication" }, mp.Listener, "127.0.0.1:0", key)
      raises({ "libcrypto is needed for authentication" }, mp.Client, "127.0.0.1:1", key)
      local q = mp.Queue() q:put(1) eq(q:get(), 1)]], { under = under })
  end)
end)

describe("where a filter refuses", function()
  local dir = support.shell("mktemp -d"):match "%S+"
  local refuse = dir .. "/refuse"
  local built = quietly(("%s -o %s %s/spec/support/refuse.c"):format(os.getenv "CC" or "cc", refuse, support.root))
  local works = built and quietly(refuse .. " 1 -- true")
  local only = works and it or function(name) pending(name .. ": no filter can be made") end
  local CALLS = { pidfd_open = 434, futex_waitv = 449, close_range = 436, madvise = 28 }
  if support.shell "uname -m" ~= "x86_64\n" then only = function(name) pending(name .. ": not on this machine") end end
  teardown(function() support.shell("rm -rf " .. dir) end)

  for _, method in ipairs(METHODS) do
    only("pidfd_open, ends are waited for by " .. method, function()
      for mode, errno in pairs(ERRNOS) do
        support.ok(CHECK .. ("check %q"):format(method),
          { mode = mode, under = ("%s %d %d --"):format(refuse, errno, CALLS.pidfd_open) })
      end
    end)
  end

  only("pidfd_open, the ends of programs are waited for", function()
    for mode, errno in pairs(ERRNOS) do
      support.ok([[
        local p = mp.subprocess.Popen{ "sh", "-c", "read x; exit 3", stdin = "pipe", stdout = "pipe" }
        eq({ p:wait(0.03) }, { nil, "timeout" })
        raises({ "wait", "no descriptor" }, mp.wait, { p }, 0)
        p:write "\n"
        eq({ p:wait(10), p:read() }, { 3 })
        eq(mp.subprocess.run{ "sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 4" }.status, 4)]],
        { mode = mode, under = ("%s %d %d --"):format(refuse, errno, CALLS.pidfd_open) })
    end
  end)

  for _, call in ipairs { "futex_waitv", "close_range", "madvise" } do
    only(call .. ", all works, and sleeps when it waits", function()
      for mode, errno in pairs(ERRNOS) do
        support.ok(CHECK .. [[
          check "fork" check "spawn"
          local q = mp.Queue()
          local p = P(function() mp.sleep(0.5) q:put(1) end)
          local before = os.clock()
          eq(q:get(10), 1)
          assert(os.clock() - before < 0.25, "it did not sleep")
          all { p }]], { mode = mode, under = ("%s %d %d --"):format(refuse, errno, CALLS[call]) })
      end
    end)
  end

  only("memfd_create, that is said", function()
    support.ends(1, { "shared arena", "memfd_create", "Operation not permitted" }, "print(1)",
      { mode = "command", under = refuse .. " 1 319 --" })
  end)
end)
