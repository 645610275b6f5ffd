-- Programs: mp.subprocess.run, which waits for the end, and Popen, which does not.
local support = require "spec.support"
local ok = support.ok

describe("subprocess.run #later", function()
  it("runs a program and gives status, stdout and stderr", function()
    ok[[
      local r = mp.subprocess.run{ "sh", "-c", "echo out; echo err >&2; exit 3" }
      eq({ r.status, r.stdout, r.stderr }, { 3, "out\n", "err\n" })
      eq(mp.subprocess.run{ "cat", stdin = ("x"):rep(300000) }.stdout, ("x"):rep(300000))
      eq(mp.subprocess.run{ "sh", "-c", "kill -9 $$" }.status, -9)
      eq(mp.subprocess.run{ "echo", "a b", "$HOME" }.stdout, "a b $HOME\n")]]
  end)

  it("gives nil and a reason: no such program, timeout", function()
    ok[[
      local r, why = mp.subprocess.run{ "/no/such/program" }
      eq(r, nil)
      assert(type(why) == "string")
      local from = now()
      eq({ select(2, mp.subprocess.run{ "sleep", "60", timeout = 0.1 }) }, { "timeout", { stdout = "", stderr = "" } })
      late(from, 0.1)
      local _, reason, printed = mp.subprocess.run{ "sh", "-c", "echo out; echo err >&2; exec sleep 60", timeout = 1 }
      eq({ reason, printed }, { "timeout", { stdout = "out\n", stderr = "err\n" } })]]
  end)

  it("gives what was printed until the timeout, however the program behaves", function()
    ok[[
      local function printed(text, opts)
        local words = { "sh", "-c", text, timeout = 0.2 }
        for k, v in pairs(opts or {}) do words[k] = v end
        local from = now()
        local r, why, all = mp.subprocess.run(words)
        eq({ r, why }, { nil, "timeout" })
        assert(now() - from < 5, "it came late")
        return all
      end
      eq(printed "trap '' TERM; echo stays; while :; do sleep 1; done", { stdout = "stays\n", stderr = "" })
      eq(printed "echo parent; sleep 5 & wait", { stdout = "parent\n", stderr = "" }) -- a grandchild has the pipe
      eq(printed "exec >&- 2>&-; sleep 60", { stdout = "", stderr = "" })
      eq(printed("sleep 60", { stdin = ("x"):rep(1000000) }), { stdout = "", stderr = "" })
      eq(#printed("head -c 3000000 /dev/zero; sleep 60", { timeout = 1 }).stdout, 3000000)
      assert(#printed("exec yes", { timeout = 0.05 }).stdout > 0) -- it always has more
      assert(#printed("exec yes >&2", { timeout = 0.05 }).stderr > 0)
      eq(printed("sleep 60", { timeout = 0 }), { stdout = "", stderr = "" })]]
  end)

  it("lets the others run while a program always has more to say, and is cancelled then", function()
    ok[[
      local co = mp.co
      local t = co.spawn(mp.subprocess.run, { "yes" })
      for _ = 1, 5 do co.sleep(0.001) end
      t:kill()
      eq(t:join(10), true)
      eq({ co.with_timeout(0.05, mp.subprocess.run, { "yes" }) }, { nil, "timeout" })]]
  end)

  it("is killed at its timeout and with its process, unless it is detached", function()
    ok[[
      local dir = os.tmpname()
      local function pid_in(name)
        local pid
        until_true(function()
          local f = io.open(dir .. name)
          pid = f and f:read "n"
          if f then f:close() end
          return pid
        end)
        os.remove(dir .. name)
        return pid
      end
      local function words(name, opts)
        opts[1], opts[2], opts[3] = "sh", "-c", "echo $$ >" .. dir .. name .. "; exec sleep 60"
        return opts
      end
      for _, detach in ipairs { false, true } do
        eq(select(2, mp.subprocess.run(words("late", { timeout = 0.2, detach = detach }))), "timeout")
        wait_dead(pid_in "late")
        local p = P(function() mp.subprocess.run(words("with", { detach = detach })) end)
        local pid = pid_in "with"
        kill(p.pid)
        p:join()
        if detach then
          eq(dead(pid), false)
          kill(pid)
        end
        wait_dead(pid)
      end
      os.remove(dir)]]
  end)

  it("suspends only the task", function()
    ok[[
      local co, tasks = mp.co, {}
      local dir = os.tmpname()
      for i = 1, 2 do
        tasks[i] = co.spawn(mp.subprocess.run, { "sh", "-c",
          ("touch %s.%d; while [ ! -e %s.%d ]; do sleep 0.01; done"):format(dir, i, dir, 3 - i), timeout = 10 })
      end
      for i = 1, 2 do eq(tasks[i]:get().status, 0) end
      for i = 1, 2 do os.remove(dir .. "." .. i) end
      os.remove(dir)]]
  end)

  it("starts the program in the given directory and environment", function()
    ok[[
      eq(mp.subprocess.run{ "pwd", cwd = "/usr" }.stdout, "/usr\n")
      eq(mp.subprocess.run{ "/usr/bin/env", env = { A = "x y" } }.stdout, "A=x y\n")
      local r, why = mp.subprocess.run{ "pwd", cwd = "/no/such" }
      eq(r, nil)
      assert(why:find("/no/such", 1, true), why)]]
  end)

  it("pumps all three at once, and copes with a program that stops reading", function()
    ok[[
      local r = mp.subprocess.run{ "sh", "-c", "tee /dev/stderr", stdin = ("x"):rep(1000000) }
      eq({ #r.stdout, #r.stderr }, { 1000000, 1000000 })
      eq(mp.subprocess.run{ "true", stdin = ("x"):rep(1000000) }.status, 0)
      eq(mp.subprocess.run{ "head", "-c", "3", stdin = ("x"):rep(1000000) }.stdout, "xxx")
      eq(mp.subprocess.run{ "sh", "-c", "exec >&- 2>&-; wc -c >/dev/null", stdin = ("x"):rep(1000000) }.status, 0)]]
  end)

  it("gives the program the standard descriptors and no others", function()
    ok[[
      local mine <close> = io.open("/dev/null")
      local list = mp.subprocess.run{ "ls", "/proc/self/fd", stdin = "" }.stdout
      eq(list, "0\n1\n2\n3\n")]]
  end)

  it("is killed with the task that waits", function()
    ok[[
      local co, file = mp.co, os.tmpname()
      local t = co.spawn(mp.subprocess.run, { "sh", "-c", "echo $$ > " .. file .. "; exec sleep 60" })
      local pid
      until_true(function() pid = io.open(file):read("n") return pid end)
      t:kill()
      eq(t:join(10), true)
      wait_dead(pid)
      os.remove(file)]]
  end)

  it("requires words and known fields", function()
    ok[[
      local run = mp.subprocess.run
      raises({ "run", "table" }, run, "ls")
      raises({ "run", "program" }, run, {})
      raises({ "run", "tmeout" }, run, { "ls", tmeout = 1 })
      raises({ "run", "timeout" }, run, { "ls", timeout = -1 })
      raises({ "run", "zero byte" }, run, { "ls\0" })
      raises({ "run", "argument 2" }, run, { "ls", {} })]]
  end)
end)

-- Popen is a local, and every program of a test ends with it.
local function popen(code, opts) return ok("local Popen, co = mp.subprocess.Popen, mp.co\n" .. code, opts) end

describe("subprocess.Popen #later", function()
  it("writes to a program and reads what it answers", function()
    popen[[
      local p = Popen{ "sort", stdin = "pipe", stdout = "pipe" }
      eq({ p:write("pear\n"), p:write("apple\n"), p:write(12 .. "\n") }, { true, true, true })
      eq(p.status, nil)
      p:close_stdin() p:close_stdin()
      eq({ p:read("L"), p:read(3), p:read("l"), p:read("a") }, { "12\n", "app", "le", "pear\n" })
      eq({ n = select("#", p:read("l")), p:read("l") }, { n = 1 })
      eq({ p:wait(), p.status, p:wait(0) }, { 0, 0, 0 })]]
  end)

  it("gives the lines of a program, and its standard error apart or joined", function()
    popen[[
      local command = "echo one; echo two >&2; printf three"
      local apart, joined = Popen{ "sh", "-c", command, stdout = "pipe", stderr = "pipe" }, {}
      local lines = {}
      for line in apart:lines() do lines[#lines + 1] = line end
      eq({ lines, apart:read_err("a") }, { { "one", "three" }, "two\n" })
      local p = Popen{ "sh", "-c", command, stdout = "pipe", stderr = "stdout" }
      for line in p:lines "L" do joined[#joined + 1] = line end
      eq(joined, { "one\n", "two\n", "three" })
      raises({ "Popen:read_err", "stderr is not a pipe" }, p.read_err, p)]]
  end)

  it("lets a program have this one's streams by default, or none", function()
    local r = popen([[
      eq(Popen{ "sh", "-c", "read x; echo got $x; echo said >&2" }:wait(), 0)
      eq(Popen{ "sh", "-c", "cat; echo x; echo x >&2", stdin = "null", stdout = "null", stderr = "null" }:wait(), 0)
      io.stderr:write("") io.stdout:write("end\n")]], { stdin = "word\n", through = "cat",
      under = "sh -c 'exec \"$@\" 2>&1' -" })
    assert.equal("got word\nsaid\nend\n", r.stdout)
  end)

  it("starts a program in a directory and an environment", function()
    popen[[
      local p = Popen{ "/bin/sh", "-c", "pwd; echo $A$B", cwd = "/usr", env = { A = "x y" }, stdout = "pipe" }
      eq(p:read "a", "/usr\nx y\n")]]
  end)

  it("says why a program cannot be started", function()
    popen[[
      local function why(opts)
        local p, message = Popen(opts)
        eq(p, nil)
        return message
      end
      eq(why{ "no-such-program" }, "no-such-program: No such file or directory")
      eq(why{ "true", cwd = "/no/such" }, "/no/such: No such file or directory")
      eq(why{ "/" }, "/: Permission denied")]]
    popen([[
      local held = {}
      repeat held[#held + 1] = io.open "/dev/null" until #held > 30 or not io.open "/dev/null"
      while true do local f = io.open "/dev/null" if not f then break end held[#held + 1] = f end
      local p, why = Popen{ "true", stdin = "pipe", stdout = "pipe" }
      eq(p, nil) assert(why:find("Too many open files", 1, true), why)
      for _, f in ipairs(held) do f:close() end
      eq(Popen{ "true", stdin = "pipe", stdout = "pipe" }:wait(), 0)]], { before = "ulimit -n 40" })
  end)

  it("refuses wrong fields with their name", function()
    popen[[
      raises({ "subprocess.Popen", "table" }, Popen, "ls")
      raises({ "Popen", "program" }, Popen, {})
      raises({ "Popen", "stdno", "stdin, stdout, stderr, cwd, env, detach" }, Popen, { "ls", stdno = "pipe" })
      raises({ "Popen", "argument 2" }, Popen, { "ls", {} })
      raises({ "Popen", "'cwd'" }, Popen, { "ls", cwd = 1 })
      for _, wrong in ipairs{ 5, "stdout", true, {}, print, "file" } do
        raises({ "Popen", "'stdin' must be \"pipe\", \"inherit\"" }, Popen, { "ls", stdin = wrong })
      end
      local closed = io.tmpfile()
      closed:close()
      raises({ "Popen", "'stdout'", "closed" }, Popen, { "ls", stdout = closed })
      raises({ "Popen", "'stdout'", "not open for writing" }, Popen, { "ls", stdout = io.open "/dev/null" })
      raises({ "Popen", "'stdin'", "not open for reading" }, Popen, { "ls", stdin = io.open("/dev/null", "w") })
      local p = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
      raises({ "Popen", "'stdin'", "not open for reading" }, Popen, { "ls", stdin = p.stdin })
      raises({ "Popen:write", "string" }, p.write, p, {})
      raises({ "Popen:read", "format" }, p.read, p, "x")
      raises({ "Popen:read", "timeout" }, p.read, p, "l", -1)
      raises({ "Popen:wait", "timeout" }, p.wait, p, 0 / 0)
      raises({ "Popen:kill", "signal" }, p.kill, p, "NOSUCH")
      raises({ "Popen:read", "bad self" }, p.read, {})
      raises({ "field 'status' cannot be set" }, function() p.status = 1 end)
      p:close_stdin()
      raises({ "Popen:write", "stdin is closed" }, p.write, p, "x")
      eq({ p:read "a", p:wait() }, { "", 0 })]]
  end)

  it("keeps what a read had when its time is over, or it is cancelled", function()
    popen[[
      local p = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
      p:write "half"
      local from = now()
      for _, format in ipairs{ "l", "a", 100 } do eq({ p:read(format, 0.05) }, { nil, "timeout" }) end
      late(from, 0.15)
      eq({ p:read("l", 0) }, { nil, "timeout" })
      eq({ co.with_timeout(0.05, p.read, p, "a") }, { nil, "timeout" })
      local t = co.spawn(p.read, p, 7)
      co.sleep(0)
      t:kill() t:join()
      p:write "way\nrest"
      p:close_stdin()
      eq({ p:read(), p:read "a" }, { "halfway", "rest" })]]
  end)

  it("ends a read at its time though there is always more, keeps it all, and lets the others run", function()
    ok[[
      local Popen, co = mp.subprocess.Popen, mp.co
      local p <close> = Popen{ "yes", stdout = "pipe" }
      eq({ p:read("a", 0.05) }, { nil, "timeout" })
      eq({ co.with_timeout(0.05, p.read, p, "a") }, { nil, "timeout" })
      eq({ p:read(1 << 40, 0) }, { nil, "timeout" })
      local t = co.spawn(p.read, p, "a")
      for _ = 1, 5 do co.sleep(0.001) end
      t:kill()
      eq(t:join(10), true)
      eq({ p:read(6, 0), p:read(nil, 0) }, { "y\ny\ny\n", "y" })]]
  end)

  it("takes each call of a task as one unit", function()
    popen[[
      local p = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
      local writers = {}
      for i = 1, 4 do
        writers[i] = co.spawn(function() for _ = 1, 10 do p:write((tostring(i)):rep(99999) .. "\n") end end)
      end
      local readers, seen = {}, {}
      for i = 1, 3 do
        readers[i] = co.spawn(function()
          for line in p:lines() do
            local c = line:sub(1, 1)
            assert(line == c:rep(99999))
            seen[c] = (seen[c] or 0) + 1
          end
        end)
      end
      for _, t in ipairs(writers) do t:get() end
      p:close_stdin()
      for _, t in ipairs(readers) do t:get() end
      eq(seen, { ["1"] = 10, ["2"] = 10, ["3"] = 10, ["4"] = 10 })]]
  end)

  it("suspends only the task that reads, writes or waits", function()
    popen[[
      local silent = Popen{ "sh", "-c", "read x; exit 7", stdin = "pipe", stdout = "pipe" }
      local deaf = Popen{ "sleep", "60", stdin = "pipe" }
      local waits = { co.spawn(silent.wait, silent), co.spawn(silent.read, silent) }
      local stuck = co.spawn(deaf.write, deaf, ("x"):rep(3000000))
      for _ = 1, 100 do co.sleep(0) end
      eq({ waits[1]:ready(), waits[2]:ready(), stuck:ready() }, { false, false, false })
      silent:write "go\n"
      eq({ waits[1]:get(), waits[2]:get() }, { 7 })
      eq(mp.wait({ deaf }, 0), {})
      eq(mp.wait{ deaf, silent }, { silent })
      deaf:kill()
      eq({ stuck:get() }, { nil, "closed" })
      deaf:wait()
      eq(mp.wait{ deaf, silent }, { deaf, silent })]]
  end)

  it("answers a write to one that has ended or reads no more with closed", function()
    popen[[
      local p = Popen{ "true", stdin = "pipe" }
      eq(p:wait(), 0)
      eq({ p:write "x" }, { nil, "closed" })
      local r = Popen{ "sh", "-c", "exec <&-; echo closed; read x <&1", stdin = "pipe", stdout = "pipe" }
      eq(r:read(), "closed")
      eq({ r:write(("x"):rep(1000000)) }, { nil, "closed" })
      local closing = Popen{ "sleep", "60", stdin = "pipe" }
      local t = co.spawn(closing.write, closing, ("x"):rep(1000000))
      co.sleep(0)
      closing:close_stdin()
      eq({ t:get() }, { nil, "closed" })
      closing:kill()]]
  end)

  it("wakes a task that reads a pipe which another closes", function()
    popen[[
      local p <close> = Popen{ "sleep", "60", stdout = "pipe" }
      local t = co.spawn(p.read, p)
      co.sleep(0)
      p.stdout:close() p.stdout:close()
      eq({ t:get() }, { nil, "closed" })
      raises({ "Popen:read", "closed" }, p.read, p)]]
  end)

  it("waits for the status with a timeout, and sends signals", function()
    popen[[
      local p = Popen{ "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done", stdout = "pipe" }
      eq(p:read(), "ready")
      local from = now()
      eq({ p:wait(0.05) }, { nil, "timeout" })
      late(from, 0.05)
      eq({ p.status, p:wait(0) }, { nil, nil, "timeout" })
      eq({ p:kill "TERM", p:wait(10), p.status, p:kill() }, { true, 5, 5, false })
      local q = Popen{ "sleep", "60" }
      eq({ q:kill(), q:wait() }, { true, -9 })
      assert(tostring(q):find("^mp.subprocess.Popen: sleep %(pid " .. q.pid .. ", status %-9%)"), tostring(q))]]
  end)

  it("ends with the scope of its variable, detached ones excepted", function()
    popen[[
      local pid, other
      do
        local p <close> = Popen{ "sleep", "60", stdin = "pipe" }
        local q <close> = Popen{ "sleep", "60", detach = true }
        pid, other = p.pid, q.pid
      end
      eq(state(pid), "gone")
      assert(not dead(other))
      kill(other) wait_dead(other)
      local t = co.spawn(function() local p <close> = Popen{ "sleep", "60" } pid = p.pid p:wait() end)
      until_true(function() return pid and not dead(pid) end)
      t:kill() t:join()
      eq(state(pid), "gone")]]
  end)

  it("ends with its process, also by kill -9", function()
    popen[[
      local a, b = mp.Pipe()
      local child = P(function()
        local p = Popen{ "sleep", "60" }
        b:send(p.pid)
        p:wait()
      end)
      local pid = a:recv()
      assert(not dead(pid))
      child:kill() child:join()
      wait_dead(pid)]]
  end)

  it("reads and writes files, and gives back what was read ahead", function()
    popen[[
      local f = io.tmpfile()
      f:write "first\n"
      eq(Popen{ "echo", "second", stdout = f }:wait(), 0)
      f:seek "set"
      eq(f:read(), "first")
      local p = Popen{ "cat", stdin = f, stdout = "pipe" }
      eq(p:read "a", "second\n")]]
  end)

  it("connects programs by their pipes, however much flows", function()
    popen[[
      local count = 2000000
      local a = Popen{ "head", "-c", tostring(count), "/dev/zero", stdout = "pipe" }
      local b = Popen{ "tr", "\\0", "x", stdin = a.stdout, stdout = "pipe" }
      a.stdout:close()
      local c = Popen{ "wc", "-c", stdin = b.stdout, stdout = "pipe" }
      b.stdout:close()
      eq({ tonumber(c:read()), a:wait(), b:wait(), c:wait() }, { count, 0, 0, 0 })
      local sink = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
      local source = Popen{ "echo", "hello", stdout = sink.stdin }
      sink:close_stdin()
      eq({ sink:read(), sink:read(), source:wait() }, { "hello", nil, 0 })]]
  end)

  it("gives a program a socket, which then blocks", function()
    popen[[
      local socket = require "socket"
      local listener = assert(socket.bind("127.0.0.1", 0))
      local client = assert(socket.connect("127.0.0.1", (select(2, listener:getsockname()))))
      local server = assert(listener:accept())
      server:settimeout(0)
      local p = Popen{ "cat", stdin = server, stdout = server }
      server:close()
      raises({ "Popen", "'stdin'", "closed" }, Popen, { "cat", stdin = server })
      client:send "echo\n"
      eq(client:receive(), "echo")
      client:shutdown "send"
      eq({ p:wait(), client:receive() }, { 0, nil, "closed", "" })]]
  end)

  it("gives a program the streams that it names and no other descriptors", function()
    popen[[
      local mine, null = io.open "/dev/null", io.open("/dev/null", "w")
      local other = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
      local p = Popen{ "ls", "/proc/self/fd", stdin = mine, stdout = "pipe", stderr = null }
      eq(p:read "a", "0\n1\n2\n3\n")
      other:close_stdin() other:wait()]]
    local r = support.run([[
      mp.subprocess.Popen{ "sh", "-c", "echo out; echo err >&2", stdout = io.stderr, stderr = io.stdout }:wait()]])
    assert.same({ "err\n", "out\n" }, { r.stdout, r.stderr })
  end)

  it("can be waited for by the process that started it alone", function()
    popen([[
      mp.set_start_method "fork"
      p = Popen{ "sleep", "60" }
      local child = P(function()
        raises({ "Popen:wait", "only the process that started" }, p.wait, p)
        raises({ "Popen:kill", "only the process that started" }, p.kill, p)
        do local q <close> = p end
        eq({ p.status }, {})
      end)
      all{ child }
      assert(not dead(p.pid))
      p:kill()]])
  end)

  it("leaves no descriptor and no zombie, used or dropped", function()
    popen[[
      local function round()
        local p <close> = Popen{ "cat", stdin = "pipe", stdout = "pipe", stderr = "pipe" }
        p:write "x" p:close_stdin() p:read "a"
        local dropped = Popen{ "true", stdin = "pipe", stdout = "pipe" }
        local t = co.spawn(function() local q <close> = Popen{ "cat", stdin = "pipe", stdout = "pipe" } q:read() end)
        co.sleep(0)
        t:kill() t:join()
      end
      round() collectgarbage() collectgarbage()
      local before = descriptors()
      for _ = 1, 50 do round() end
      collectgarbage() collectgarbage()
      assert(descriptors() <= before)
      until_true(function()
        mp.subprocess.run{ "true" }
        local list = mp.subprocess.run{ "ps", "-o", "stat=", "--ppid", tostring(mp.current_process().pid) }
        return not list or not list.stdout:find "Z"
      end)]]
  end)
end)
