import JWTKit

/// The claims of a token, whatever they are.
struct JWTClaims: JWTPayload {
    var values: [String: JWTClaimValue]

    init(_ values: [String: JWTClaimValue]) { self.values = values }

    init(from decoder: any Decoder) throws {
        self.values = try decoder.singleValueContainer().decode([String: JWTClaimValue].self)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.values)
    }

    /// The claims are judged by `accept`, which knows the time and the configuration.
    func verify(using algorithm: some JWTAlgorithm) async throws {}

    enum Verdict {
        case accepted(AcceptedClient)
        case refused(String)
    }

    /// Judges the claims of a token whose signature is right.
    ///
    /// - Parameters:
    ///   - userName: what CONNECT said; the token's own must be the same unless it is empty.
    ///   - now: seconds since the Unix epoch.
    func judge(_ configuration: JWTConfiguration, userName: String?, now: UInt64) -> Verdict {
        var expiresAt: UInt64?
        if let claim = self.values["exp"] {
            guard let seconds = claim.seconds else { return .refused("the token's 'exp' is no time") }
            guard seconds > now else { return .refused("the token has expired") }
            expiresAt = seconds
        }
        if let claim = self.values["nbf"] {
            guard let seconds = claim.seconds, seconds <= now else { return .refused("the token is not valid yet") }
        }
        if let audience = configuration.audience, self.values["aud"]?.strings?.contains(audience) != true {
            return .refused("the token is for another audience")
        }
        if let issuer = configuration.issuer, self.values["iss"] != .string(issuer) {
            return .refused("the token is of another issuer")
        }
        guard case .string(let user)? = self.values[configuration.userClaim], !user.isEmpty else {
            return .refused("the token has no claim '\(configuration.userClaim)'")
        }
        if let userName, !userName.isEmpty, !userName.utf8.elementsEqual(user.utf8) {
            return .refused("the token is of another user than CONNECT says")
        }
        let grant: TopicGrant?
        do throws(AccessFileError) {
            grant = try self.grant
        } catch {
            return .refused(error.reason)
        }
        return .accepted(AcceptedClient(userName: user, expiresAt: expiresAt, grant: grant))
    }

    /// The rights of the claims `publ` and `subs`, or of `acl` with `pub`, `sub` and `all`; nil if there is none of them.
    private var grant: TopicGrant? {
        get throws(AccessFileError) {
            var grant = TopicGrant()
            var isThere = false
            func filters(_ name: String, _ value: JWTClaimValue?) throws(AccessFileError) -> [String] {
                guard let value else { return [] }
                isThere = true
                guard case .array = value, let filters = value.strings else {
                    throw AccessFileError("the token's '\(name)' is no list of topic filters")
                }
                return filters
            }
            grant.publish = try filters("publ", self.values["publ"])
            grant.subscribe = try filters("subs", self.values["subs"])
            if let acl = self.values["acl"] {
                guard case .object(let lists) = acl else {
                    throw AccessFileError("the token's 'acl' has no lists 'pub', 'sub' and 'all'")
                }
                isThere = true
                let all = try filters("all", lists["all"])
                grant.publish += try filters("pub", lists["pub"]) + all
                grant.subscribe += try filters("sub", lists["sub"]) + all
            }
            if let wrong = grant.invalidFilter {
                throw AccessFileError("the token has a wrong topic filter: '\(wrong)'")
            }
            return isThere ? grant : nil
        }
    }
}

/// A value of JSON.
enum JWTClaimValue: Codable, Hashable, Sendable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JWTClaimValue])
    case object([String: JWTClaimValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        // Each fails for a value of another type.
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode([JWTClaimValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JWTClaimValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }

    /// A time in whole seconds since the Unix epoch; nil for what is no number that fits.
    var seconds: UInt64? {
        guard case .number(let number) = self, number >= 0 else { return nil }
        return UInt64(exactly: number.rounded(.down))
    }

    /// A string, or the strings of an array; nil if there is something else.
    var strings: [String]? {
        switch self {
        case .string(let text): return [text]
        case .array(let values):
            var texts: [String] = []
            for value in values {
                guard case .string(let text) = value else { return nil }
                texts.append(text)
            }
            return texts
        case .null, .bool, .number, .object: return nil
        }
    }
}
