--- Receive and send of TLS connections (those of other streams are in lsocket.c): each call as a
--- whole, whichever tasks call. A receive that is interrupted, by a kill or a time limit around it,
--- leaves its data to the next one. LuaSocket's own timeout returns the data to the caller.
local core = require "mpengine.core"
local limits = require "mpengine.monkey.limits"

local streams = {}

--- The data left by an interrupted receive, if it is all that the pattern requires.
local function take_left(l, pattern, prefix)
    local bytes, n, line_end = l.left, tonumber(pattern), nil
    local last = n and n - #prefix
    if not n and pattern:sub(1, 2) == "*l" then line_end = bytes:find("\n", 1, true) end
    if line_end then last = line_end - 1 end
    if not last or last > #bytes then return nil end
    last = math.max(0, last)
    local data = bytes:sub(1, last)
    bytes = bytes:sub((line_end or last) + 1)
    l.left = bytes ~= "" and bytes or nil
    return prefix .. (n and data or data:gsub("\r", ""))
end

--- One try of a receive. Data left by an earlier call precedes new data; l.pieces is still empty.
local function try_receive(s, class, l, pattern, prefix)
    local own = #prefix
    if l.left then
        local data = take_left(l, pattern, prefix)
        if data then return data end
        prefix, l.left = prefix .. (pattern == "*l" and l.left:gsub("\r", "") or l.left), nil
    end
    local data, err, part = class.receive(s, pattern, prefix)
    if err == "closed" and pattern == "*a" and #part > own then return part end
    return data, err, part
end

--- The rest of a receive whose first try got only a part, which is in l.pieces, as is all later
--- data.
local function receive_rest(s, class, l, start, pattern, err, own)
    local wanted, pieces = tonumber(pattern), l.pieces
    local got = #pieces[1]
    while limits.wait(s, class, l, start, err, "r") do
        local data, more
        data, err, more = class.receive(s, wanted and wanted - got or pattern)
        more = data or more or ""
        pieces[#pieces + 1] = more
        got = got + #more
        local ended = err == "closed" and pattern == "*a" and got > own
        if data or ended then return table.concat(pieces) end
    end
    return nil, err, table.concat(pieces)
end

local function receive_whole(s, class, l, start, pattern, prefix)
    local data, err, part = try_receive(s, class, l, pattern, prefix)
    if data or not limits.direction(err, "r") then return data, err, part end
    l.pieces = { part or "" }
    return receive_rest(s, class, l, start, pattern, err, #prefix)
end

--- The end of a receive. If it was interrupted, it leaves its data.
local function received(l, own, ok, ...)
    if not ok and l.pieces then
        local bytes = table.concat(l.pieces):sub(own + 1)
        l.left = bytes ~= "" and bytes or nil
    end
    l.pieces = nil
    l.reading:leave()
    if not ok then error(..., 0) end
    if ... then return (...), nil, nil end
    return ...
end

--- The method of a class.
function streams.receive(class)
    return function(s, pattern, prefix)
        local l, start = limits.enter(s, class)
        pattern = pattern == nil and "*l" or pattern
        prefix = type(prefix) == "number" and tostring(prefix) or prefix or ""
        if not tonumber(pattern) and type(pattern) ~= "string" or type(prefix) ~= "string" then
            return class.receive(s, pattern, prefix) -- raises
        end
        if not limits.order(l, "reading"):enter(limits.left(l, start)) then return nil, "timeout", prefix end
        return received(l, #prefix, core.call(receive_whole, s, class, l, start, pattern, prefix))
    end
end

--- True if it has bytes that select need not wait for.
function streams.dirty(class)
    return function(s) return limits.of(s, class).left ~= nil or class.dirty(s) end
end

local function send_whole(s, class, l, start, data, i, j)
    local last, err, sent = class.send(s, data, i, j)
    while not last and limits.wait(s, class, l, start, err, "w") do
        last, err, sent = class.send(s, data, sent + 1, j)
    end
    return last, err, sent
end

--- The method of a class.
function streams.send(class)
    return function(s, data, i, j)
        local l, start = limits.enter(s, class)
        i, j = i or 1, j or -1
        if not limits.order(l, "writing"):enter(limits.left(l, start)) then return nil, "timeout", i - 1 end
        return l.writing:run(send_whole, s, class, l, start, data, i, j)
    end
end

return streams
