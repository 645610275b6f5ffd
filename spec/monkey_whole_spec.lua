-- Several tasks on one socket or file: each call reads or writes as a whole, and a read that is
-- interrupted leaves its part to the next one.
local support = require "spec.support"

-- pair() gives the two ends of a connection; trickle(s, text) sends it in small pieces.
local HEAD = [[
  local co = mp.co mp.monkey.patch_all()
  local socket = require "socket"
  local function pair()
    local server = assert(socket.bind("127.0.0.1", 0))
    local a = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
    return a, assert(server:accept())
  end
  local function trickle(s, text)
    for at = 1, #text, 7 do s:send(text:sub(at, at + 6)) co.sleep(0) end
  end
  local function numbered(n) local t = {} for i = 1, n do t[i] = ("item %d of many"):format(i) end return t end
  local function sorted(t)
    table.sort(t, function(a, b) return tonumber(a:match "%d+") < tonumber(b:match "%d+") end)
    return t
  end
]]
local function ok(code) return support.ok(HEAD .. code) end

describe("tasks that share", function()
  it("a socket get whole lines, each once", function()
    ok[[
      local a, b = pair()
      local items, got = numbered(300), {}
      local readers = {}
      for i = 1, 4 do
        readers[i] = co.spawn(function()
          for line in function() return (b:receive()) end do got[#got + 1] = line end
        end)
      end
      trickle(a, table.concat(items, "\n") .. "\n")
      a:close()
      co.joinall(readers)
      eq(sorted(got), items)]]
  end)

  it("a socket get whole blocks, in the order of their calls", function()
    ok[[
      local a, b = pair()
      local got, readers = {}, {}
      for i = 1, 5 do
        readers[i] = co.spawn(function()
          local block = b:receive(i * 10)
          got[#got + 1] = block
        end)
        co.sleep(0)
      end
      trickle(a, ("abcde"):gsub(".", function(c) return c:rep((c:byte() - 96) * 10) end))
      co.joinall(readers)
      for i = 1, 5 do eq(got[i], string.char(96 + i):rep(i * 10)) end]]
  end)

  it("a socket send whole strings", function()
    ok[[
      local a, b = pair()
      local senders = {}
      for i = 1, 3 do
        senders[i] = co.spawn(function() assert(a:send(tostring(i):rep(1000000)) == 1000000) end)
      end
      co.spawn(function() co.joinall(senders) a:close() end)
      eq(b:receive "*a", ("1"):rep(1000000) .. ("2"):rep(1000000) .. ("3"):rep(1000000))]]
  end)

  it("a program's output get whole lines, numbers and blocks", function()
    ok[[
      local items = numbered(300)
      local f = io.popen "for i in `seq 300`; do printf 'item %d' $i; printf ' of many\n'; done"
      local got, readers = {}, {}
      for i = 1, 4 do
        readers[i] = co.spawn(function() for line in f:lines() do got[#got + 1] = line end end)
      end
      co.joinall(readers)
      eq(sorted(got), items)
      f = io.popen "for i in `seq 20`; do printf '12'; sleep 0.001; printf '34 '; done"
      local count = 0
      for i = 1, 4 do
        readers[i] = co.spawn(function()
          for _ = 1, 5 do eq(f:read("n"), 1234) eq(f:read(0), "") count = count + 1 end
        end)
      end
      co.joinall(readers)
      eq(count, 20)]]
  end)

  it("a program's input write whole calls", function()
    ok[[
      local name = os.tmpname()
      local f = io.popen("sleep 0.1; cat >" .. name, "w")
      local writers = {}
      for i = 1, 3 do
        writers[i] = co.spawn(function() f:write(tostring(i):rep(200000), i, "\n") end)
      end
      co.joinall(writers)
      f:close()
      local lines = {}
      for line in io.lines(name) do lines[#lines + 1] = line end
      os.remove(name)
      for i = 1, 3 do eq(lines[i], tostring(i):rep(200001)) end]]
  end)

  it("standard input get whole lines, by any call", function()
    local program = [[
      local mp = require "mpengine"
      mp.monkey.patch_all()
      local co, count, readers = mp.co, 0, {}
      local reads = {
        io.read, io.lines(), function() return io.stdin:read "L" end, function() return io.read(0) and io.read "l" end
      }
      for i = 1, 4 do
        readers[i] = co.spawn(function()
          for line in reads[i] do
            assert(line:find "^item %d+ of many\n?$", line)
            count = count + 1
            co.sleep(0)
          end
        end)
      end
      co.joinall(readers)
      print(count)]]
    local feed = "for i in `seq 300`; do printf 'item %d' $i; printf ' of many\\n'; done"
    local line = ("(%s) | %s %s -e %s"):format(feed, support.limit, support.quote(support.command),
      support.quote(program))
    assert.equal("300\n", support.shell(line))
  end)

  it("a socket wait for each other no longer than their timeouts, and learn that it is closed", function()
    ok[[
      local a, b = pair()
      local outcomes = {}
      local readers = {}
      for i = 1, 3 do
        readers[i] = co.spawn(function() outcomes[i] = table.pack(b:receive()) end)
      end
      co.sleep(0)
      b:settimeout(0)
      eq(table.pack(b:receive()), { nil, "timeout", "", n = 3 })
      b:settimeout(0.05)
      eq(table.pack(b:receive("*l", "so far ")), { nil, "timeout", "so far ", n = 3 })
      b:close()
      co.joinall(readers)
      for i = 1, 3 do eq(outcomes[i][2], "closed") end]]
  end)
end)

describe("a read that is interrupted", function()
  it("of a line of a socket leaves its part to the next", function()
    ok[[
      local a, b = pair()
      a:send "half "
      eq(select(2, co.with_timeout(0.05, b.receive, b)), "timeout")
      eq(select(2, co.with_timeout(0.05, b.receive, b)), "timeout")
      a:send "a line\r\nmore\n"
      eq(b:receive(), "half a line")
      eq(b:receive(), "more")]]
  end)

  it("leaves its part also to a different kind of read", function()
    ok[[
      local a, b = pair()
      a:send "one\ntwo\nthr"
      eq(select(2, co.with_timeout(0.05, b.receive, b, 100)), "timeout")
      eq(#socket.select({ b }, nil, 0), 1)
      eq(b:receive(2), "on")
      eq(b:receive("*l", "pre"), "pree")
      eq(b:receive(6, "123"), "123two")
      eq(b:receive(), "")
      eq(select(2, co.with_timeout(0.05, b.receive, b, "*a", "x")), "timeout")
      a:send "ee"
      a:close()
      eq(b:receive("*a", "and "), "and three")
      eq(table.pack(b:receive "*a"), { nil, "closed", "", n = 3 })]]
  end)

  it("gives the rest to a read of everything", function()
    ok[[
      local a, b = pair()
      a:send "all"
      eq(select(2, co.with_timeout(0.05, b.receive, b, "*a")), "timeout")
      a:close()
      eq(b:receive "*a", "all")]]
  end)

  it("by a kill leaves its part to the next task", function()
    ok[[
      local a, b = pair()
      local first = co.spawn(function() b:receive() end)
      local second = co.spawn(function() return b:receive() end)
      a:send "half "
      while b:getstats() == 0 do co.sleep(0.001) end
      first:kill()
      a:send "line\n"
      eq(second:get(), "half line")]]
  end)

  it("by LuaSocket's timeout gives the part, once", function()
    ok[[
      local a, b = pair()
      a:send "part"
      b:settimeout(0.05)
      eq(table.pack(b:receive(10)), { nil, "timeout", "part", n = 3 })
      a:send "rest"
      eq(b:receive(4), "rest")]]
  end)

  it("ends, and lets the others run, though there is always more", function()
    ok[[
      local f = io.popen "yes"
      eq({ co.with_timeout(0.05, f.read, f, "a") }, { nil, "timeout" })
      local t = co.spawn(f.read, f, "a")
      for _ = 1, 5 do co.sleep(0.001) end
      t:kill()
      eq(t:join(10), true)
      eq(f:read(), "y")
      local turns = 0
      local other = co.spawn(function() while true do turns = turns + 1 co.sleep(0) end end)
      local listener = socket.bind("127.0.0.1", 0)
      local python <close> = mp.subprocess.Popen{ "/usr/bin/python3", "-c", "\
import socket, sys\
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\
try:\
    while True: s.sendall(bytes(1000000))\
except OSError: pass", tostring(select(2, listener:getsockname())) }
      local c = listener:accept()
      eq({ co.with_timeout(0.05, c.receive, c, "*a") }, { nil, "timeout" })
      c:settimeout(0.05)
      local _, why, part = c:receive "*a"
      eq({ why, #part > 0 }, { "timeout", true })
      turns = 0
      c:settimeout(nil)
      eq(#c:receive(200 << 20), 200 << 20)
      assert(turns > 2, turns)
      other:kill()]]
  end)

  it("of a program's output leaves its part, whatever was read", function()
    ok[[
      local gate = os.tmpname() .. ".fifo"
      assert(os.execute("mkfifo " .. gate))
      for _, how in ipairs { { "l", "l" }, { "a" }, { 100 }, { "n", "l", "l" }, { "L", 50 } } do
        local f = io.popen("printf '12 half\nli'; cat " .. gate .. "; printf 'ne\n'")
        for _ = 1, 2 do
          eq(select(2, co.with_timeout(0.03, f.read, f, table.unpack(how))), "timeout")
        end
        io.open(gate, "w"):close()
        eq(f:read "a", "12 half\nline\n")
        f:close()
      end
      os.remove(gate)]]
  end)
end)
