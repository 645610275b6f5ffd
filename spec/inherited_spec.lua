local support = require "spec.support"

-- Programs whose starter left them signals that are ignored or blocked.
local METHODS = { "fork", "spawn", "forkserver" }

local function both(code, opts)
  for _, mode in ipairs { "command", "stock" } do
    local o = { mode = mode }
    for k, v in pairs(opts) do o[k] = v end
    support.ok(code, o)
  end
end

local ENDS = [[
local function code_of(f)
  local p = P(f)
  p:join(10)
  return p.exitcode
end
local function check_ends()
  eq(code_of(function() end), 0, "a good child")
  eq(code_of(function() os.exit(3) end), 3, "os.exit")
  eq(code_of(function() kill(mp.current_process().pid) mp.sleep(10) end), -9, "a killed child")
  eq(mp.subprocess.run({ "sh", "-c", "exit 4" }).status, 4, "a program")
  eq(table.pack(os.execute "exit 7"), table.pack(nil, "exit", 7), "os.execute")
  eq(table.pack(io.popen("exit 5"):close()), table.pack(nil, "exit", 5), "io.popen")
  local all = {}
  for i = 1, 4 do all[i] = P(os.exit, i) end
  for i = 1, 4 do all[i]:join(10) eq(all[i].exitcode, i) end
end
]]

describe("SIGCHLD", function()
  for _, method in ipairs(METHODS) do
    for how, under in pairs { ignored = "env --ignore-signal=CHLD", blocked = "env --block-signal=CHLD" } do
      it(("that is %s does not change how children by %s end"):format(how, method), function()
        both(ENDS .. ("mp.set_start_method %q check_ends()"):format(method), { under = under })
      end)
    end
  end

  it("that is ignored does not keep a pool from reporting how its worker ended", function()
    both([[
      local pool <close> = mp.Pool(1)
      local ok, err = pcall(pool.apply, pool, os.exit, { 9 })
      eq(ok, false) eq(err.exitcode, 9)
      eq(pool:apply(math.abs, { -1 }), 1)]], { under = "env --ignore-signal=CHLD" })
  end)

  it("that a host ignores makes exit codes of its own children unknown, which is not 0", function()
    both([[
      local p = P(function() end)
      mp.signal("CHLD", "ignore")
      p:join(10)
      local q = P(os.exit, 0)
      q:join(10)
      eq(q.exitcode, 255)]], {})
  end)
end)

describe("signals that are blocked", function()
  for _, method in ipairs(METHODS) do
    it("do not keep children by " .. method .. " from being terminated and stopped", function()
      both(([[
        mp.set_start_method %q
        for _, f in ipairs { function() mp.sleep(20) end, function() while true do end end } do
          local q = mp.Queue()
          local p = P(function() q:put(1) f() end)
          q:get(10)
          p:terminate()
          eq(p:join(10), true) eq(p.exitcode, -15)
        end
        local pool <close> = mp.Pool(1)
        local r = pool:apply_async(function() while true do end end, {}, { timeout = 0.1 })
        local ok, err = pcall(r.get, r, 10)
        eq(ok, false) eq(err.kind, "timeout")
        eq(pool:apply(math.abs, { -1 }), 1)]]):format(method), { under = "env --block-signal" })
    end)
  end

  it("do not stop time limits of code that computes", function()
    both([[
      eq(table.pack(mp.co.with_timeout(0.1, function() while true do end end)), table.pack(nil, "timeout"))]],
      { under = "env --block-signal" })
  end)

  it("are unblocked by mp.signal", function()
    both([[
      local got = mp.Event()
      mp.signal("USR1", function() got:set() end)
      kill(0, "USR1")
      eq(got:wait(10), true)]], { under = "env --block-signal=USR1" })
  end)

  it("do not prevent the program's termination", function()
    for _, mode in ipairs { "command", "stock" } do
      local r = support.run("kill(0, 'TERM') mp.sleep(10)", { mode = mode, under = "env --block-signal" })
      assert.equal(143, r.status, r.stderr)
    end
  end)

  it("are not blocked in programs that it runs", function()
    both([[
      local masks = "grep SigBlk /proc/self/status"
      local none = "SigBlk:\t0000000000000000\n"
      eq(mp.subprocess.run({ "sh", "-c", masks }).stdout, none)]], { under = "env --block-signal" })
  end)
end)

describe("signals that are ignored", function()
  it("by nohup stay ignored, in children and programs too", function()
    for _, method in ipairs(METHODS) do
      both(([[
        mp.set_start_method %q
        kill(0, "HUP")
        eq(mp.subprocess.run({ "sh", "-c", "kill -HUP $$; echo here" }).stdout, "here\n")
        local p = P(function() kill(mp.current_process().pid, "HUP") os.exit(5) end)
        p:join(10)
        eq(p.exitcode, 5)]]):format(method), { under = "env --ignore-signal=HUP" })
    end
  end)

  it("such as SIGPIPE are at their default in programs that it runs", function()
    both([[
      local yes = mp.subprocess.run { "sh", "-c", "yes | head -n 1; echo end" }
      eq(yes.stdout, "y\nend\n") eq(yes.stderr, "")]], { under = "env --ignore-signal=PIPE" })
  end)

  it("do not change what ends a child", function()
    for _, method in ipairs(METHODS) do
      both(([[
        mp.set_start_method %q
        local q = mp.Queue()
        local p = P(function() q:put(1) mp.sleep(20) end)
        q:get(10)
        p:terminate()
        eq(p:join(10), true) eq(p.exitcode, -15)]]):format(method), { under = "env --ignore-signal" })
    end
  end)
end)

describe("the first process of a namespace", function()
  local UNSHARE = "unshare --pid --fork --mount-proc --kill-child"
  local can = support.shell(UNSHARE .. " true 2>/dev/null && echo yes"):match "yes"
  local only = can and it or function(name) pending(name .. ": this user may not make namespaces") end

  only("starts children, pools and programs", function()
    both(ENDS .. [[
      eq(mp.current_process().pid, 1)
      for _, method in ipairs(mp.get_all_start_methods()) do
        mp.set_start_method(method)
        check_ends()
        local daemon = mp.Process { target = mp.sleep, args = { 20 }, daemon = true }
        daemon:start()
        local pool <close> = mp.Pool(2)
        eq(pool:map(math.abs, { -1, -2 }), { 1, 2 })
      end]], { under = UNSHARE })
  end)

  only("is ended by SIGTERM and SIGINT", function()
    for name, status in pairs { TERM = 143, INT = 130 } do
      for _, mode in ipairs { "command", "stock" } do
        local r = support.run(("mp.subprocess.run { 'kill', '-%s', '1' } mp.sleep(10)"):format(name),
          { mode = mode, under = UNSHARE })
        assert.equal(status, r.status, mode .. name .. r.stderr)
      end
    end
  end)
end)

describe("a program", function()
  it("works in a directory that was removed, without a home", function()
    for _, method in ipairs(METHODS) do
      both(([[
        mp.set_start_method %q
        local q = mp.Queue()
        local p = P(q.put, q, "child")
        eq(q:get(10), "child")
        all { p }
        eq(mp.subprocess.run({ "echo", "x" }).stdout, "x\n")]]):format(method),
        { under = [[env -u HOME -u USER sh -c 'd=$(mktemp -d) && cd $d && rmdir $d && exec "$@"' sh]] })
    end
  end)
end)
