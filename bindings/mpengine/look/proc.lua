--- What /proc says of a process. Everything is nil when the process is gone.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local proc = {}

local TICKS <const> = 100 -- of processor time in a second, in /proc, on every machine

local WORDS <const> = {
    R = "running", S = "sleeping", D = "in an uninterruptible wait", T = "stopped", t = "stopped by a debugger",
    Z = "ended", X = "ended", I = "idle",
}

local function read(pid, name)
    local file = io.open(("/proc/%d/%s"):format(pid, name), "rb")
    if not file then return nil end
    local text = file:read("a")
    file:close()
    return text
end

--- { letter, word, cpu (seconds), memory (bytes), threads, wchan }
function proc.state(pid)
    local stat = read(pid, "stat")
    local letter, rest = (stat or ""):match("^.*%) (%S) (.*)$")
    if not letter or letter == "Z" or letter == "X" then return nil end
    local numbers = {}
    for number in rest:gmatch("%-?%d+") do numbers[#numbers + 1] = tonumber(number) end
    local status = read(pid, "status") or ""
    local wchan = read(pid, "wchan")
    return {
        letter = letter, word = WORDS[letter] or letter,
        cpu = ((numbers[11] or 0) + (numbers[12] or 0)) / TICKS,
        threads = numbers[17],
        memory = (tonumber(status:match("VmRSS:%s*(%d+)")) or 0) * 1024,
        wchan = wchan and wchan ~= "" and wchan ~= "0" and wchan or nil,
    }
end

return proc
