local support = require "spec.support"

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

for _, mode in ipairs{ "command", "stock" } do
  local function script(name, args, opts)
    opts = opts or {}
    opts.file, opts.mode, opts.args = "scripts/" .. name .. ".lua", mode, args
    local r = support.ok(nil, opts)
    return lines_of(r.stdout), r
  end

  describe("under " .. (mode == "stock" and "stock lua5.4" or "the command"), function()
    -- The examples of the chapter on coroutines, and all that they print.
    local chapter = {
      fanout = { "apple: 5 letters", "banana: 6 letters", "failed: no such page", "date: 4 letters", "together",
        "1\t1", "2\t4", "3\t9", "4\t16" },
      timeout = { "in time:\t3", "  the slow one's is given back", "too late:\tnil\ttimeout",
        "  the busy one's is given back", "endless:\tnil\ttimeout", "nested:\tinner timeout, outer goes on" },
      cancel = { "worker: starts", "killed, not ended yet", "worker: cleaned up (killed: closing time)",
        "worker:\tnil\tkilled", "stubborn:\tnil\tkilled", "never:\tnil\tkilled" },
      scope = { "door: done", "walls: done", "roof: done", "the house stands", "brakes: done", "engine: cancelled",
        "the car:\tfalse\tthe wheels came off", "tunnel: cancelled", "too slow:\tnil\ttimeout" },
      pipeline = { "LEVEL STATS REWARD DRAWER SLAP RATS LIVE WOLF POOL EMIT", "the clock ran beside it" },
      backpressure = { "the producer waits for room", "20 items, sum 210, at most 3 in the queue" },
    }
    for name, lines in pairs(chapter) do
      it("co_" .. name .. ".lua prints what its chapter says", function()
        assert.same(lines, (script("co_" .. name)))
      end)
    end

    it("supervisor.lua keeps its processes running", function()
      local r = support.run(nil, { file = "scripts/supervisor.lua", mode = mode })
      assert.equal(0, r.status, r.stderr)
      for _, line in ipairs(lines_of(r.stderr)) do
        assert.truthy(line:find "^supervisor: .- ended %(.-%); it starts again", line)
      end
      assert.same({ "store is ready", "web is up, after 2 crashes", "web has been started again\t2", "worker says\t49",
        "the next worker says\t64", "store is stopped", "store is ready", "web is stopped", "store is stopped" },
        lines_of(r.stdout))
    end)

    it("hang.lua shows which tasks wait for each other", function()
      local lines = script "hang"
      assert.truthy(lines[1]:find("tasks wait for each other: ", 1, true), lines[1])
      for _, part in ipairs{ "transfer of MainProcess (pid N) waits at hang.lua:13 for mp.Lock: 0xN 'safe'",
        "main of teller (pid N) waits at hang.lua:13 for mp.Lock: 0xN 'till'" } do
        assert.truthy(lines[1]:find(part, 1, true), lines[1])
      end
    end)

    it("leak.lua shows what grows, and where it was made", function()
      assert.same({ "300 sessions", "! mp.Queue 'log' (0xN, made at leak.lua:6) has 300 items, and none was ever taken",
        "     300 mp.Dict made at leak.lua:10, with 300 items in all",
        "       1 mp.Queue made at leak.lua:6, with 300 items in all" }, script "leak")
    end)

    it("remote.lua speaks to a worker through Redis", function()
      local redis = require "spec.support.redis"
      local server = redis.start()
      local url = server.url
      local worker = io.popen(("echo $$; exec %s worker -j 2 --allow 'string.*' %s 2>&1"):format(
        support.quote(support.command), url))
      local pid = worker:read "l"
      worker:read "l" -- it is ready
      local done, lines = pcall(script, "remote", { url })
      redis.remove(server)
      os.execute("kill -9 " .. pid)
      worker:close()
      assert(done, lines)
      assert.same({ "processes that work for us:\t2", "one call:\thahaha", "a map:   \tONE TWO THREE",
        "as they come:\t1\tcba", "as they come:\t2\tfed", "an error:\tfalse\terror" }, table.move(lines, 1, 6, 1, {}))
      assert.equal("this script has run before:\tfalse", lines[8])
    end)

    it("server.lua is answered by its workers", function()
      local lines = script "server"
      assert.equal(11, #lines)
      for i = 1, 10 do assert.equal(("hello %d\tby a worker"):format(i), lines[i]) end
      assert.equal("stopped", lines[11])
    end)

    it("web.lua answers in JSON", function()
      assert.same({ '{"count":3,"name":"apples"}', '{"count":5,"name":"apples"}' }, script "web")
    end)

    it("cache.lua calls the expensive function once", function()
      local lines = script "cache"
      assert.equal(5, #lines)
      table.sort(lines)
      for n = 1, 4 do assert.equal(("process %d: computed by one"):format(n), lines[n]) end
      assert.truthy(lines[5]:match "^the function was called 1 time, [0-3] waited for it$")
    end)

    it("process.lua prints from ten processes, and 'all done' last", function()
      local lines = script "process"
      assert.equal(11, #lines)
      assert.equal("all done", lines[11])
      local pids, numbers = {}, {}
      for i = 1, 10 do
        local name, pid, n = lines[i]:match("^(Process%-%d+) %(pid (%d+)%): number (%d+) slept")
        assert.truthy(name, lines[i])
        assert.equal("Process-" .. n, name)
        assert.falsy(pids[pid])
        pids[pid], numbers[n] = true, true
      end
      for n = 1, 10 do assert.is_true(numbers[tostring(n)]) end
    end)

    it("isolation.lua prints ten lists of one element, and an empty one last", function()
      local lines = script "isolation"
      assert.equal(11, #lines)
      local seen = {}
      for i = 1, 10 do
        local n, element = lines[i]:match("^process (%d+): 1 element, { (%d+) }$")
        assert.equal(n, element)
        seen[n] = true
      end
      for n = 1, 10 do assert.is_true(seen[tostring(n)]) end
      assert.equal("main script: 0 elements", lines[11])
    end)

    it("queue.lua brings each item once", function()
      local lines = script "queue"
      assert.equal("100 items, sum 5050", lines[#lines])
      table.remove(lines)
      table.sort(lines)
      assert.same({
        "consumer-1: the queue is closed", "consumer-2: the queue is closed", "consumer-3: the queue is closed",
        "producer-1: put 1 to 50", "producer-2: put 51 to 100",
      }, lines)
    end)

    it("structs.lua moves all particles, each process its part", function()
      assert.same({ "mp.Struct: {x: d, v: d, bounces: i, name: c[8]} (32 bytes)",
        "1000 particles, all between 0.0 and 1.0: true", "4692 bounces, 10 of p629" }, (script "structs"))
    end)

    it("array.lua prints the squares and the table of type codes", function()
      local lines = script "array"
      assert.equal("squares: 1 4 9 16 25 36 49 64 81 100", lines[1])
      assert.equal("text:    SHARED text", lines[2])
      assert.equal("300 in a 'b' is refused:\ttrue\t1", lines[3])
      assert.equal("outside the array is nil:\tnil", lines[4])
      local codes = {}
      for i = 7, #lines do
        codes[#codes + 1] = lines[i]:sub(1, 1)
        local ends = ({ c = "x", u = "é", b = "-128", B = "255", I = "4294967295", d = "0.1" })[lines[i]:sub(1, 1)]
        if ends then assert.equal(ends, lines[i]:match("(%S+)$")) end
      end
      assert.equal("cubBhHiIlLqQfd", table.concat(codes))
    end)

    it("dict.lua prints what ten processes wrote", function()
      local lines = script "dict"
      for n = 1, 10 do
        assert.equal(("%2d -> %3d, written by filler-%d"):format(n, n * n, n), lines[n])
      end
      assert.equal("filled by 10 processes, 11 keys", lines[11])
      assert.equal(11, #lines)
    end)

    it("lock.lua prints ten whole blocks, the last one 11 12 13", function()
      for _, through in ipairs{ false, "cat" } do
        local lines = script("lock", nil, { through = through or nil })
        local want = {}
        for block = 1, 10 do
          for i = 1, 3 do want[#want + 1] = tostring(i + block) end
        end
        assert.same(want, lines)
        assert.same({ "11", "12", "13" }, { lines[28], lines[29], lines[30] })
      end
    end)

    it("sync.lua shows the event, the condition and the semaphore", function()
      assert.same({
        "event: before set,\t0\thave gone",
        "event: after set,\t3\thave gone",
        "condition:\t3\tcakes eaten,\t0\tleft",
        "semaphore: two at a time,\t0\ttimes more",
      }, (script "sync"))
    end)

    it("popen.lua talks to programs, and ends the last one", function()
      assert.same({
        "1 squared is 1", "2 squared is 4", "3 squared is 9", "4 squared is 16", "5 squared is 25",
        "the shell ended with status\t0", "sorted:\tapple", "sorted:\tfig", "sorted:\tpear", "in time:\tnil\ttimeout",
        "later:\thalf and half", "the sleeper's status:\t-9",
      }, (script "popen"))
    end)

    it("pool.lua runs thirty tasks in three processes, and prints 'end' last", function()
      for _, args in ipairs{ {}, { "apply_async" }, { "apply" } } do
        local lines = script("pool", args)
        assert.equal("end", lines[#lines])
        local pids, tasks, count = {}, {}, 0
        for _, line in ipairs(lines) do
          local n, pid = line:match("^task +(%d+) in process (%d+)$")
          if n then
            assert.falsy(tasks[n])
            tasks[n] = true
            if not pids[pid] then pids[pid], count = true, count + 1 end
          end
        end
        for n = 1, 30 do assert.is_true(tasks[tostring(n)]) end
        assert.is_true(count <= 3)
        if args[1] ~= "apply" then
          assert.equal(3, count)
          assert.equal("sum of squares\t9455", lines[#lines - 1])
        end
      end
    end)

    it("pool.lua terminate stops before all the tasks have run, and prints 'end' last", function()
      local lines = script("pool", { "terminate" })
      assert.equal("end", lines[#lines])
      assert.is_true(#lines >= 2 and #lines < 31)
    end)

    it("pool.lua refuses another word", function()
      local r = support.run(nil, { file = "scripts/pool.lua", mode = mode, args = { "sideways" } })
      assert.equal(1, r.status)
      assert.truthy(r.stderr:find("expected apply_async, apply or terminate", 1, true), r.stderr)
    end)

    describe("coroutine.lua", function()
      local server
      setup(function() server = support.server "httpd.lua" end)
      teardown(function() server.stop() end)

      for _, how in ipairs{ "", "--patched" } do
        local function fetch(...)
          local args = { ... }
          if how ~= "" then table.insert(args, 1, how) end
          return script("coroutine", args, { env = { no_proxy = "127.0.0.1" } })
        end

        it(how .. " has three requests under way at once", function()
          local url = ("%s/together/3/%s%s"):format(server.url, mode, how)
          local lines = fetch(url, url, url)
          assert.equal(7, #lines)
          for i = 1, 3 do assert.equal("GET: " .. url, lines[i]) end
          for i = 4, 6 do
            assert.equal(("%d bytes received from %s"):format(#("together " .. mode .. how), url), lines[i])
          end
          assert.equal("done", lines[7])
        end)

        it(how .. " tells the reason of a failure, and goes on with the others", function()
          local bad = "http://127.0.0.1:1/"
          local lines = fetch(bad, server.url .. "/hello", server.url .. "/drop")
          local text = table.concat(lines, "\n")
          assert.truthy(text:find(bad .. " failed: [^\n]+"), text)
          assert.truthy(text:find("5 bytes received from " .. server.url .. "/hello", 1, true), text)
          assert.truthy(text:find(server.url .. "/drop failed: [^\n]+"), text)
          assert.equal("done", lines[#lines])
        end)
      end
    end)
  end)
end

describe("a script", function()
  it("is short, and its head comment says what to notice", function()
    local count = 0
    for name in support.shell("ls " .. support.quote(support.root .. "/scripts")):gmatch("([^\n]+%.lua)\n") do
      count = count + 1
      local text = support.read_file(support.root .. "/scripts/" .. name)
      assert.equal("--", text:sub(1, 2))
      local head = text:match("^(%-%-.-)\n[^%-]")
      assert.truthy(head:find("Notice:", 1, true), name)
      local _, lines = text:gsub("\n", "")
      assert.is_true(lines < 60, name .. " has " .. lines .. " lines")
    end
    assert.is_true(count >= 9)
  end)
end)

describe("the smallest C program", function()
  it("is in the README as it is run, and has less than 45 lines", function()
    local text = support.read_file(support.root .. "/engine/examples/smallest.c")
    local _, lines = text:gsub("\n", "")
    assert.is_true(lines < 45, lines .. " lines")
    local shown = support.read_file(support.root .. "/README.md")
    assert.truthy(shown:find((text:gsub("^[^\n]*\n", "", 1)), 1, true)) -- without the licence
  end)
end)
