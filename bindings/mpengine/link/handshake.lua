--- How two programs that have the same key make sure of each other, before anything is decoded:
---
---     listener -> client   GREETING, 32 random bytes L
---     client -> listener   32 random bytes C, HMAC(key, "client" .. L .. C)
---     listener -> client   "+", HMAC(key, "listener" .. L .. C); or "-" and the end
---
--- Each proof contains both random numbers and the side that made it, so that none can be used again or
--- sent back. All parts have fixed sizes. Nothing is encrypted.
local core = require "mpengine.core"

local handshake = {}

local GREETING <const> = "mpengine link 1\n"
local RANDOM <const>, PROOF <const> = 32, 32

handshake.CHALLENGE = #GREETING + RANDOM -- bytes of each part
handshake.ANSWER = RANDOM + PROOF
handshake.VERDICT = 1 + PROOF

local function proof(key, side, challenge, random)
    return core.hmac_sha256(key, side .. challenge:sub(-RANDOM) .. random)
end

--- The first part.
---@return string challenge
function handshake.challenge() return GREETING .. core.random_bytes(RANDOM) end

--- The client's part; nil when the other side is no listener.
---@param key string
---@param challenge string
---@return string? answer
function handshake.answer(key, challenge)
    if challenge:sub(1, #GREETING) ~= GREETING then return nil end
    local random = core.random_bytes(RANDOM)
    return random .. proof(key, "client", challenge, random)
end

--- The listener's last part, and whether the client has the key.
---@return string verdict
---@return boolean accepted
function handshake.verdict(key, challenge, answer)
    local random = answer:sub(1, RANDOM)
    if not core.same_bytes(answer:sub(-PROOF), proof(key, "client", challenge, random)) then return "-", false end
    return "+" .. proof(key, "listener", challenge, random), true
end

--- Whether the listener has the key too, and has accepted.
---@return boolean
function handshake.check(key, challenge, answer, verdict)
    return verdict:sub(1, 1) == "+" and #verdict == handshake.VERDICT
        and core.same_bytes(verdict:sub(2), proof(key, "listener", challenge, answer:sub(1, RANDOM)))
end

return handshake
